package feed

import (
	"strconv"
	"testing"

	"github.com/google/go-cmp/cmp"

	"activityfeed/internal/event"
)

func TestListsAreReadOutOfReplies(t *testing.T) {
	t.Parallel()
	const id event.ID = 1573987284942897152
	one := "$19\r\n" + id.String() + "\r\n"
	for _, tt := range []struct {
		name  string
		reply string
		want  listed
		ok    bool
	}{
		{"nothing", "*0\r\n", listed{ids: []event.ID{}}, true},
		{"ids", "*2\r\n" + one + one, listed{length: 2, ids: []event.ID{id, id}}, true},
		{"with the sentinel", "*2\r\n" + one + "$1\r\n0\r\n", listed{length: 2, ids: []event.ID{id}, whole: true}, true},
		{"with a marker", "*2\r\n" + one + "$4\r\nB123\r\n", listed{length: 2, ids: []event.ID{id}}, true},
		{"the sentinel is not the last", "*2\r\n$1\r\n0\r\n" + one, listed{length: 2, ids: []event.ID{id}}, true},
		{"a marker of 19 characters", "*1\r\n$19\r\nB573987284942897152\r\n", listed{length: 1, ids: []event.ID{}}, true},
		{"19 digits beyond 63 bits", "*1\r\n$19\r\n9999999999999999999\r\n", listed{length: 1, ids: []event.ID{}}, true},
		{"an error", "-LOADING Redis is loading\r\n", listed{}, false},
		{"a redirection", "-MOVED 3999 127.0.0.1:6381\r\n", listed{}, false},
		{"no list", "_\r\n", listed{}, false},
		{"a number", ":1\r\n", listed{}, false},
		{"cut off", "*2\r\n" + one, listed{}, false},
		{"cut in an id", "*1\r\n" + one[:20], listed{}, false},
		{"more than it says", "*1\r\n" + one + one, listed{}, false},
		{"a negative length", "*-1\r\n", listed{}, false},
		{"an absurd length", "*99999999999\r\n", listed{}, false},
		{"empty", "", listed{}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, ok := parseList([]byte(tt.reply))
			if ok != tt.ok || ok && !cmp.Equal(got, tt.want, cmp.AllowUnexported(listed{})) {
				t.Errorf("parseList(%q) = %+v, %v, want %+v, %v", tt.reply, got, ok, tt.want, tt.ok)
			}
		})
	}
}

// FuzzList holds the quick reader to the one of strings.
func FuzzList(f *testing.F) {
	f.Add("1573987284942897152", "0")
	f.Add("B573987284942897152", "+573987284942897152")
	f.Add("0573987284942897152", "9999999999999999999")
	f.Fuzz(func(t *testing.T, first, second string) {
		var reply []byte
		reply = append(reply, "*2\r\n"...)
		for _, entry := range []string{first, second} {
			reply = append(reply, "$"+strconv.Itoa(len(entry))+"\r\n"+entry+"\r\n"...)
		}
		got, ok := parseList(reply)
		want := listOf([]string{first, second})
		if !ok || !cmp.Equal(got, want, cmp.AllowUnexported(listed{})) {
			t.Errorf("parseList(%q) = %+v, %v, want %+v", reply, got, ok, want)
		}
	})
}
