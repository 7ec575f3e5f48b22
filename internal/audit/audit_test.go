package audit

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"activityfeed/internal/event"
	"activityfeed/internal/testenv"
	pb "activityfeed/proto/activityfeed/v1"
)

// The scene of most tests: bob reads ann (posts 1 to 5, 3 deleted) and himself (6).
func scene() []proto.Message {
	return []proto.Message{
		follow("bob", "ann"), posted("ann", 1), posted("ann", 2), posted("ann", 3), posted("ann", 4), posted("ann", 5), deleted("ann", 3),
		posted("bob", 6), posted("eve", 7), mute("bob", "eve"),
	}
}

func TestAuditFindsWhatIsPlanted(t *testing.T) {
	t.Parallel()
	swap := func(i, j int) func([]*pb.Photo) []*pb.Photo {
		return func(p []*pb.Photo) []*pb.Photo { p[i], p[j] = p[j], p[i]; return p }
	}
	cut := func(i int) func([]*pb.Photo) []*pb.Photo {
		return func(p []*pb.Photo) []*pb.Photo { return slices.Delete(p, i, i+1) }
	}
	plant := func(i int, planted *pb.Photo) func([]*pb.Photo) []*pb.Photo {
		return func(p []*pb.Photo) []*pb.Photo { return slices.Insert(p, i, planted) }
	}
	for _, tt := range []struct {
		name   string
		tamper func([]*pb.Photo) []*pb.Photo // of bob's feed: 6 5 4 2 1
		want   []string
	}{
		{"nothing", nil, nil},
		{"the newest is missing", cut(0), []string{"bob missing 6 bob: their own post; newer than all that the feed has"}},
		{"one in the middle is missing", cut(2), []string{"bob missing 4 ann: a post by an author whom they follow; a hole between newer and older posts"}},
		{"the oldest is missing", cut(4), []string{"bob missing 1 ann: a post by an author whom they follow; older than all that the feed has"}},
		{"all is missing", func([]*pb.Photo) []*pb.Photo { return nil }, []string{
			"bob missing 6 bob: their own post; the feed is empty",
			"bob missing 5 ann: a post by an author whom they follow; the feed is empty",
			"bob missing 4 ann: a post by an author whom they follow; the feed is empty",
			"bob missing 2 ann: a post by an author whom they follow; the feed is empty",
			"bob missing 1 ann: a post by an author whom they follow; the feed is empty",
		}},
		{"a deleted post", plant(3, photo("ann", 3)), []string{"bob extra 3 ann: deleted by its author"}},
		{"a stranger's post", plant(0, photo("eve", 7)), []string{"bob extra 7 eve: an author whom they do not follow"}},
		{"a post from nowhere", plant(0, photo("ann", 8)), []string{"bob extra 8 ann: never posted by this author"}},
		{"a duplicate beside", plant(1, photo("bob", 6)), []string{"bob duplicate 6 bob: stands there again"}},
		{"a duplicate on another page", plant(5, photo("ann", 5)), []string{"bob duplicate 5 ann: stands there again"}},
		{"two changed places", swap(1, 2), []string{"bob misordered 5 ann: stands after the older 4"}},
		{"two far ones changed places", swap(0, 4), []string{
			"bob misordered 5 ann: stands after the older 1",
			"bob misordered 6 bob: stands after the older 2",
		}},
		{"another's name", func(p []*pb.Photo) []*pb.Photo { p[0].AuthorId = "ann\x1b[2J"; return p }, []string{"bob altered 6 ann\x1b[2J: the log says by bob"}},
		{"another caption", func(p []*pb.Photo) []*pb.Photo { p[4].Caption = "x"; return p }, []string{"bob altered 1 ann: the content is not the log's"}},
		{"no id", func(p []*pb.Photo) []*pb.Photo { p[0].PostId = "six"; return p }, []string{
			`bob paging: page 1: "six" is no post id`,
			"bob missing 6 bob: their own post; newer than all that the feed has",
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			log := newFakeLog(t, scene()...)
			f := newFakeFeed(t, log)
			f.tamper = func(_ context.Context, user string, home []*pb.Photo) []*pb.Photo {
				if user != "bob" || tt.tamper == nil {
					return home
				}
				return tt.tamper(home)
			}
			var out, drift bytes.Buffer
			report, err := Run(t.Context(), Config{PageSize: 2, Workers: 2}, f.deps(&drift), &out)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, told(report.Examples)); diff != "" {
				t.Errorf("examples (-want +got):\n%s", diff)
			}
			if report.Clean() != (tt.want == nil) || report.Users != 3 || report.Unsettled != 0 || report.Rechecked > 1 {
				t.Errorf("clean %v, %d users, %d rechecked, %d unsettled", report.Clean(), report.Users, report.Rechecked, report.Unsettled)
			}
			var exported []Difference
			for d := json.NewDecoder(&drift); ; {
				var line Difference
				if err := d.Decode(&line); errors.Is(err, io.EOF) {
					break
				} else if err != nil {
					t.Fatal(err)
				}
				exported = append(exported, line)
			}
			if diff := cmp.Diff(report.Examples, exported); diff != "" {
				t.Errorf("drift (-examples +exported):\n%s", diff)
			}
			if err := report.Write(&out); err != nil || strings.Contains(out.String(), "\x1b") {
				t.Errorf("Write() = %v; an escape code reaches the terminal:\n%q", err, &out)
			}
		})
	}
}

func TestReport(t *testing.T) {
	t.Parallel()
	log := newFakeLog(t, scene()...)
	log.add(posted("ann", 9), "key-1")
	log.add(posted("ann", 10), "key-1")
	log.again(1)
	log.raw(message.NewMessage("1", []byte("no event")))
	f := newFakeFeed(t, log)
	deps := f.deps(nil)
	deps.Stored = func(context.Context) (map[string]int64, error) {
		return map[string]int64{"PhotoPosted": 8, "PhotoDeleted": 1, "UserFollowed": 1, "UserMuted": 1, "UserBlocked": 1}, nil
	}
	var out bytes.Buffer
	got, err := Run(t.Context(), Config{}, deps, &out)
	if err != nil {
		t.Fatal(err)
	}
	elapsed := got.Elapsed
	got.Elapsed = 0
	reposted := Difference{User: "ann", Kind: Reposted, PostID: id(10).String(), AuthorID: "ann", Reason: "has the idempotency key of post " + id(9).String()}
	want := Report{
		Users: 3, Posts: 6 + 7 + 1, // ann: 1 2 4 5 9 10, bob: these and 6, eve: 7
		Differences: map[Kind]int64{Reposted: 1},
		Examples:    []Difference{reposted},
		Events: []EventCount{
			{Type: "PhotoDeleted", Log: 1, Stored: 1, Compared: true},
			{Type: "PhotoPosted", Log: 9, Stored: 8, Compared: true, Differs: true},
			{Type: "UserBlocked", Log: 0, Stored: 1, Compared: true, Differs: true},
			{Type: "UserFollowed", Log: 1, Stored: 1, Compared: true},
			{Type: "UserMuted", Log: 1, Stored: 1, Compared: true},
		},
		Records: 14, Repeats: 1, Bad: 1,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("report (-want +got):\n%s", diff)
	}
	if got.Clean() || elapsed <= 0 {
		t.Errorf("clean %v after %s, want false and some time", got.Clean(), elapsed)
	}
	var tables bytes.Buffer
	if err := got.Write(&tables); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(out.String(), "│") {
		t.Errorf("the report is among the progress:\n%s", &out)
	}
	words := strings.Join(strings.Fields(tables.String()+out.String()), " ")
	for _, line := range []string{"│ users checked │ 3 │", "│ reposted │ 1 │", "│ PhotoPosted │ 9 │ 8 │ DIFFERS │", "│ UserMuted │ 1 │ 1 │ equal │", "feeds: 3 of 3 (100.0 %)"} {
		if !strings.Contains(words, line) {
			t.Errorf("no %q in\n%s", line, &out)
		}
	}
}

func TestPagesThatBreakTheContract(t *testing.T) {
	t.Parallel()
	type page = pb.GetHomeFeedResponse
	for _, tt := range []struct {
		name  string
		pages func(token string) (*page, error) // of bob's feed, two posts asked for
		want  []string
	}{
		{"short while there is more", func(token string) (*page, error) {
			if token == "" {
				return &page{Photos: []*pb.Photo{photo("bob", 6)}, HasMore: true, NextPageToken: "a"}, nil
			}
			return &page{Photos: []*pb.Photo{photo("ann", 5), photo("ann", 4)}}, nil
		}, []string{"bob paging: page 1 has 1 posts of 2 while there is more"}},
		{"longer than asked for", func(string) (*page, error) {
			return &page{Photos: []*pb.Photo{photo("bob", 6), photo("ann", 5), photo("ann", 4)}}, nil
		}, []string{"bob paging: page 1 has 3 posts, asked for were 2"}},
		{"more, but no token", func(string) (*page, error) {
			return &page{Photos: []*pb.Photo{photo("bob", 6), photo("ann", 5)}, HasMore: true}, nil
		}, []string{`bob paging: page 1: has_more is true, next_page_token is ""`}},
		{"a token, but no more", func(token string) (*page, error) {
			if token == "" {
				return &page{Photos: []*pb.Photo{photo("bob", 6), photo("ann", 5)}, NextPageToken: "a"}, nil
			}
			return &page{Photos: []*pb.Photo{photo("ann", 4)}}, nil
		}, []string{`bob paging: page 1: has_more is false, next_page_token is "a"`}},
		{"no end", func(token string) (*page, error) {
			n, _ := strconv.Atoi(token)
			if n == 0 {
				return &page{Photos: []*pb.Photo{photo("bob", 6), photo("ann", 5)}, HasMore: true, NextPageToken: "1"}, nil
			}
			return &page{Photos: []*pb.Photo{photo("ann", 4), photo("ann", -n)}, HasMore: true, NextPageToken: fmt.Sprint(n + 1)}, nil
		}, []string{"bob paging: no end after 13 pages"}},
		{"refused", func(token string) (*page, error) {
			if token == "" {
				return &page{Photos: []*pb.Photo{photo("bob", 6), photo("ann", 5)}, HasMore: true, NextPageToken: "1"}, nil
			}
			return nil, status.Error(codes.Internal, "boom\n")
		}, []string{`bob unreadable: page 2: Internal: "boom\n"`}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			log := newFakeLog(t, follow("bob", "ann"), posted("ann", 4), posted("ann", 5), posted("bob", 6))
			f := newFakeFeed(t, log)
			f.pages = func(req *pb.GetHomeFeedRequest) (*page, error) {
				if req.GetUserId() != "bob" {
					return nil, nil
				}
				return tt.pages(req.GetPageToken())
			}
			report, err := Run(t.Context(), Config{PageSize: 2}, f.deps(nil), io.Discard)
			if err != nil {
				t.Fatal(err)
			}
			got := slices.DeleteFunc(told(report.Examples), func(s string) bool { return !strings.Contains(s, "paging") && !strings.Contains(s, "unreadable") })
			if diff := cmp.Diff(tt.want, got); diff != "" || report.Clean() {
				t.Errorf("clean %v, examples (-want +got):\n%s", report.Clean(), diff)
			}
		})
	}
}

func TestDepthAndSample(t *testing.T) {
	t.Parallel()
	log := newFakeLog(t)
	for n := range 50 {
		reader := fmt.Sprintf("reader-%02d", n)
		log.add(follow(reader, "ann"), "")
		log.add(posted("ann", n), "")
	}
	f := newFakeFeed(t, log)
	f.tamper = func(_ context.Context, _ string, home []*pb.Photo) []*pb.Photo {
		return append(slices.Clone(home[:20]), home[21:]...) // post 29 is missing, the 21st
	}
	var read [2][]string
	for i := range read {
		for _, tt := range []struct {
			depth   int
			missing int64
		}{{20, 0}, {21, 10}, {0, 10}} {
			f.forget()
			report, err := Run(t.Context(), Config{Users: 10, Seed: 3, Depth: tt.depth, PageSize: 10}, f.deps(nil), io.Discard)
			if err != nil {
				t.Fatal(err)
			}
			if report.Users != 10 || report.Differences[Missing] != tt.missing || report.Clean() != (tt.missing == 0) {
				t.Errorf("depth %d: %d users, %v; want 10 users, %d missing", tt.depth, report.Users, report.Differences, tt.missing)
			}
		}
		read[i] = f.forget()
	}
	if diff := cmp.Diff(read[0], read[1]); diff != "" || len(read[0]) != 10 {
		t.Errorf("one seed draws other users:\n%s", diff)
	}
}

// A post is accepted while the feed is read: no drift, though the first read differs.
func TestFeedThatChangesIsNoDrift(t *testing.T) {
	t.Parallel()
	log := newFakeLog(t, scene()...)
	f := newFakeFeed(t, log)
	var once sync.Once
	f.tamper = func(ctx context.Context, user string, home []*pb.Photo) []*pb.Photo {
		if user == "bob" {
			once.Do(func() {
				log.add(posted("ann", 8), "")
				home = append([]*pb.Photo{photo("ann", 8)}, home...)
			})
		}
		return home
	}
	report, err := Run(t.Context(), Config{}, f.deps(nil), io.Discard)
	if err != nil || !report.Clean() || report.Unsettled != 0 {
		t.Errorf("Run() = %+v, %v; want a clean report", report, err)
	}
}

// A feed changes each time it is read: nothing can be said of it.
func TestFeedThatKeepsChanging(t *testing.T) {
	t.Parallel()
	log := newFakeLog(t, scene()...)
	f := newFakeFeed(t, log)
	n := 10
	f.tamper = func(ctx context.Context, user string, home []*pb.Photo) []*pb.Photo {
		if user == "bob" {
			n++
			// His own, which stands in no feed but his: another's read at this moment does not differ.
			log.add(posted("bob", n), "")
			home = append([]*pb.Photo{photo("bob", n)}, home...)
		}
		return home
	}
	report, err := Run(t.Context(), Config{Rounds: 2}, f.deps(nil), io.Discard)
	if err != nil || !report.Clean() || report.Unsettled != 1 || n != 13 {
		t.Errorf("Run() = %+v, %v after %d posts; want one unsettled feed after 13", report, err, n)
	}
}

// A drift that is real is found although the log goes on.
func TestDriftInALivingLog(t *testing.T) {
	t.Parallel()
	log := newFakeLog(t, scene()...)
	f := newFakeFeed(t, log)
	n := 10
	f.tamper = func(ctx context.Context, user string, home []*pb.Photo) []*pb.Photo {
		if user == "bob" {
			n++
			log.add(posted("eve", n), "")
			return home[1:]
		}
		return home
	}
	report, err := Run(t.Context(), Config{Workers: 1}, f.deps(nil), io.Discard)
	want := map[Kind]int64{Missing: 1}
	if err != nil || report.Unsettled != 0 || !cmp.Equal(want, report.Differences) {
		t.Errorf("Run() = %+v, %v; want %v", report, err, want)
	}
}

// A feed that is wrong at the first read only, with nothing accepted meanwhile, was wrong.
func TestFeedThatHeals(t *testing.T) {
	t.Parallel()
	log := newFakeLog(t, scene()...)
	f := newFakeFeed(t, log)
	var once sync.Once
	f.tamper = func(ctx context.Context, user string, home []*pb.Photo) []*pb.Photo {
		if user == "bob" {
			once.Do(func() { home = home[1:] })
		}
		return home
	}
	report, err := Run(t.Context(), Config{}, f.deps(nil), io.Discard)
	want := []string{"bob healed 6 bob: missing at the first read: their own post; newer than all that the feed has"}
	if diff := cmp.Diff(want, told(report.Examples)); err != nil || diff != "" || report.Clean() {
		t.Errorf("clean %v, %v, examples (-want +got):\n%s", report.Clean(), err, diff)
	}
}

func TestAuditWaitsForConsumers(t *testing.T) {
	t.Parallel()
	log := newFakeLog(t, scene()...)
	f := newFakeFeed(t, log)
	lags := []int64{2, 1, 0}
	deps := f.deps(nil)
	deps.Lag = lagFunc(func(_ context.Context, group, topic string) (int64, error) {
		if group != "feed" || topic != event.Topic {
			t.Errorf("Lag(%s, %s)", group, topic)
		}
		if f.reads() > 0 {
			t.Error("feeds are read before the consumers are ready")
		}
		lag := lags[0]
		if lag > 0 {
			lags = lags[1:]
		}
		return lag, nil
	})
	if report, err := Run(t.Context(), Config{}, deps, io.Discard); err != nil || !report.Clean() {
		t.Errorf("Run() = %+v, %v", report, err)
	}
}

func TestAuditGivesUp(t *testing.T) {
	t.Parallel()
	dead := errors.New("no broker")
	cause := errors.New("enough")
	for _, tt := range []struct {
		name   string
		change func(deps *Deps, cancel func(error))
		want   []string
	}{
		{"when consumers stand still", func(d *Deps, _ func(error)) {
			d.Lag = lagFunc(func(context.Context, string, string) (int64, error) { return 5, nil })
		}, []string{"group feed made no progress for 1m0s and is 5 records behind"}},
		{"when the lag is not to be had", func(d *Deps, _ func(error)) {
			d.Lag = lagFunc(func(context.Context, string, string) (int64, error) { return 0, dead })
		}, []string{"lag of group feed not known for 1m0s: no broker"}},
		{"when the replay fails", func(d *Deps, _ func(error)) { d.Tail = deadTail{run: dead} }, []string{"replay the log: no broker"}},
		{"when the log is away", func(d *Deps, _ func(error)) { d.Tail = deadTail{caughtUp: dead} }, []string{"catch up with the log: nothing came for 1m0s", "no broker"}},
		{"when the log hangs", func(d *Deps, _ func(error)) { d.Tail = deadTail{} }, []string{"catch up with the log: nothing came for 1m0s"}},
		{"when the server is away", func(d *Deps, _ func(error)) { d.Feed = deadFeed{code: codes.Unavailable} }, []string{"read feed of ", "gave up after 1m0s"}},
		{"when the table cannot be counted", func(d *Deps, _ func(error)) {
			d.Stored = func(context.Context) (map[string]int64, error) { return nil, dead }
		}, []string{"count stored events: no broker"}},
		{"when its context ends", func(d *Deps, cancel func(error)) {
			d.Lag = lagFunc(func(context.Context, string, string) (int64, error) { cancel(cause); return 5, nil })
		}, []string{"enough"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancelCause(t.Context())
				defer cancel(nil)
				deps := Deps{
					Log: testenv.Logger(t), Tail: newFakeLog(t, scene()...), Feed: deadFeed{},
					Lag: lagFunc(func(context.Context, string, string) (int64, error) { return 0, nil }),
				}
				tt.change(&deps, cancel)
				_, err := Run(ctx, Config{Patience: time.Minute}, deps, io.Discard)
				for _, want := range tt.want {
					if err == nil || !strings.Contains(err.Error(), want) {
						t.Errorf("Run() = %v, want %q in it", err, want)
					}
				}
			})
		})
	}
}

// What could not be read is not counted as read.
func TestProgressCountsWhatWasRead(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		deps := Deps{
			Log: testenv.Logger(t), Tail: newFakeLog(t, scene()...), Feed: deadFeed{code: codes.Unavailable},
			Lag: lagFunc(func(context.Context, string, string) (int64, error) { return 0, nil }),
		}
		var out bytes.Buffer
		if _, err := Run(t.Context(), Config{Patience: time.Minute}, deps, &out); err == nil {
			t.Fatal("Run() = nil")
		}
		lines := strings.Split(strings.TrimSpace(out.String()), "\n")
		last := lines[len(lines)-1]
		if !strings.HasPrefix(last, "feeds: 0 of 3 (0.0 %)") || !strings.Contains(last, "retries, the last for Unavailable") {
			t.Errorf("the last progress is %q, want none of 3 feeds, and why", last)
		}
	})
}

// Programs find every field, named as JSON is and with its unit.
func TestReportAsJSON(t *testing.T) {
	t.Parallel()
	none := map[string]any{}
	for _, kind := range Kinds() {
		none[string(kind)] = 0.0
	}
	empty := map[string]any{
		"clean": true, "users": 0.0, "posts": 0.0, "differences": none, "examples": []any{}, "rechecked": 0.0, "unsettled": 0.0,
		"events": []any{}, "records": 0.0, "repeats": 0.0, "unknown": 0.0, "bad": 0.0, "stored": 0.0, "lost": 0.0,
		"repair": nil, "elapsed_seconds": 0.0,
	}
	full := maps.Clone(empty)
	full["clean"], full["elapsed_seconds"] = false, 1.5
	full["differences"] = maps.Clone(none)
	full["differences"].(map[string]any)["missing"] = 2.0
	full["examples"] = []any{map[string]any{"user": "bob", "kind": "missing", "post_id": "1", "reason": "lost"}}
	full["events"] = []any{map[string]any{"type": "PhotoPosted", "log": 2.0, "stored": 1.0, "compared": true, "differs": true}}
	full["repair"] = map[string]any{"users": 1.0, "left": none}
	for _, tt := range []struct {
		name   string
		report Report
		want   map[string]any
	}{
		{"nothing", Report{}, empty},
		{"something of all", Report{
			Differences: map[Kind]int64{Missing: 2}, Examples: []Difference{{User: "bob", Kind: Missing, PostID: "1", Reason: "lost"}},
			Events: []EventCount{{Type: "PhotoPosted", Log: 2, Stored: 1, Compared: true, Differs: true}},
			Repair: &Repair{Users: 1}, Elapsed: 1500 * time.Millisecond,
		}, full},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			text, err := json.Marshal(tt.report)
			if err != nil {
				t.Fatal(err)
			}
			var got map[string]any
			if err := json.Unmarshal(text, &got); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("JSON (-want +got):\n%s", diff)
			}
		})
	}
}

func TestConfigValidate(t *testing.T) {
	t.Parallel()
	if err := (Config{}).Validate(); err != nil {
		t.Errorf("Validate(zero) = %v", err)
	}
	err := Config{Users: -1, Depth: -1, PageSize: 101, Workers: -1, Patience: -1}.Validate()
	for _, want := range []string{"users: -1", "depth: -1", "page size: 101", "workers: -1", "patience: -1"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Validate() = %v, want %q in it", err, want)
		}
	}
	if _, err := Run(t.Context(), Config{Users: -1}, Deps{}, io.Discard); err == nil || err.Error() != "audit: users: -1 is negative" {
		t.Errorf("Run(wrong setting) = %v, want what is wrong, named once", err)
	}
}

// told writes differences as "user kind post author: reason", with numbers for posts.
func told(differences []Difference) []string {
	if len(differences) == 0 {
		return nil
	}
	lines := make([]string, 0, len(differences))
	for _, d := range differences {
		line := fmt.Sprintf("%s %s", d.User, d.Kind)
		if d.PostID != "" {
			line += " " + d.PostID + " " + d.AuthorID
		}
		line += ": " + d.Reason
		for n := range 100 {
			line = strings.ReplaceAll(line, id(n).String(), fmt.Sprint(n))
		}
		lines = append(lines, line)
	}
	return lines
}
