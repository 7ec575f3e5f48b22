package load

import (
	"bytes"
	"compress/gzip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestRead(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 64)
	for _, tt := range []struct {
		name, in string
		want     Graph
	}{
		{"nothing", "", Graph{}},
		{"tab, space, comma", "a\tb\nb c\nc,a\n", Graph{
			Users: []string{"a", "b", "c"}, Follows: []Edge{{0, 1}, {1, 2}, {2, 0}},
		}},
		{"comments, blank lines, no last newline", "# SNAP\n% network repository\n\n  \t\n1 2", Graph{
			Users: []string{"1", "2"}, Follows: []Edge{{0, 1}},
		}},
		{"line ends of Windows", "1 2\r\n2 1\r\n", Graph{Users: []string{"1", "2"}, Follows: []Edge{{0, 1}, {1, 0}}}},
		{"runs of separators and more columns", " 1 \t 2 , 0.5 17\n", Graph{Users: []string{"1", "2"}, Follows: []Edge{{0, 1}}}},
		{"self-loops and duplicates are dropped", "1 2\n1 1\n1\t2\n1 2\n3 3\n", Graph{
			Users: []string{"1", "2", "3"}, Follows: []Edge{{0, 1}}, SelfLoops: 2, Duplicates: 2,
		}},
		{"ids stay as they are", "017 17\n" + long + " A.b:c_d-e", Graph{
			Users: []string{"017", "17", long, "A.b:c_d-e"}, Follows: []Edge{{0, 1}, {2, 3}},
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			for form, in := range map[string][]byte{"plain": []byte(tt.in), "gzip": zip(t, tt.in)} {
				got, err := Read(bytes.NewReader(in))
				if err != nil {
					t.Errorf("Read(%s %q): %v", form, tt.in, err)
					continue
				}
				if got.Follows != nil && len(got.Follows) == 0 {
					got.Follows = nil
				}
				if diff := cmp.Diff(&tt.want, got); diff != "" {
					t.Errorf("Read(%s %q) (-want +got):\n%s", form, tt.in, diff)
				}
			}
		})
	}
}

func TestReadRefuses(t *testing.T) {
	t.Parallel()
	good := strings.Repeat("1 2\n", 1000)
	zipped := zip(t, good)
	for _, tt := range []struct{ name, in, want string }{
		{"one field", "# x\n1 2\n3\n", `line 3: want two users, have "3"`},
		{"separators only", "1 2\n,,\n", `line 2: want two users`},
		{"bad id", "1 2\n1 a/b\n", `line 2: "a/b" is not a user id`},
		{"escape codes stay quoted", "\x1b[2J 1\n", `line 1: "\x1b[2J" is not a user id`},
		{"id too long", strings.Repeat("x", 65) + " 1\n", `line 1: `},
		{"line too long", "1 2\n1 2 " + strings.Repeat("x", maxLine), `line 2: longer than 65536 bytes`},
		{"torn gzip", string(zipped[:len(zipped)-12]), "unexpected EOF"},
		{"no gzip after all", "\x1f\x8b\x00\x00", "gzip: "},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			g, err := Read(strings.NewReader(tt.in))
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("Read(%.40q) = %v, %v; want error %q", tt.in, g, err, tt.want)
			}
		})
	}
}

func TestReadFileNamesTheFile(t *testing.T) {
	t.Parallel()
	if _, err := ReadFile(t.TempDir() + "/none.txt"); err == nil || !strings.Contains(err.Error(), "none.txt") {
		t.Errorf("ReadFile() = %v, want an error that names the file", err)
	}
}

func FuzzRead(f *testing.F) {
	f.Add([]byte("# c\n1 2\n2,3\n3\t3\n"))
	f.Add([]byte("\x1f\x8b\x08"))
	f.Fuzz(func(t *testing.T, in []byte) {
		g, err := Read(bytes.NewReader(in))
		if err != nil {
			return
		}
		seen := make(map[string]bool)
		for _, id := range g.Users {
			if seen[id] || !isUserID([]byte(id)) {
				t.Fatalf("Read(%q): user %q", in, id)
			}
			seen[id] = true
		}
		// What was read, written down again, reads the same.
		var out bytes.Buffer
		for i, e := range g.Follows {
			if i > 0 && compareEdges(g.Follows[i-1], e) >= 0 || e.Follower == e.Followee {
				t.Fatalf("Read(%q): follows %v", in, g.Follows)
			}
			out.WriteString(g.Users[e.Follower] + "\t" + g.Users[e.Followee] + "\n")
		}
		again, err := Read(&out)
		if err != nil || len(again.Follows) != len(g.Follows) || again.SelfLoops+again.Duplicates != 0 {
			t.Fatalf("Read(written %q) = %v, %v", in, again, err)
		}
	})
}

func zip(t *testing.T, s string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := w.Write([]byte(s)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}
