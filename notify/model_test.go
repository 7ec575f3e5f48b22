package notify

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"activityfeed/internal/event"
	pb "activityfeed/proto/activityfeed/v1"
)

// model is the definition of the inbox, in plain words and without Redis.
type model struct {
	cap int
	// follows tells when a follow began, and when the wish for every post did.
	follows, wishes map[pair]event.ID
	blocks, mutes   map[pair]bool
	deleted         map[pair]bool
	inboxes         map[string][]modelRow
}

// pair is (who, whom), or (author, post).
type pair [2]string

type modelRow struct {
	id                event.ID
	kind, actor, post string
	read              bool
}

func newModel(rows int) *model {
	return &model{
		cap: rows, follows: map[pair]event.ID{}, wishes: map[pair]event.ID{}, blocks: map[pair]bool{},
		mutes: map[pair]bool{}, deleted: map[pair]bool{}, inboxes: map[string][]modelRow{},
	}
}

// hears says whether reader is told of what actor does.
func (m *model) hears(reader, actor string) bool {
	return !m.blocks[pair{reader, actor}] && !m.blocks[pair{actor, reader}] && !m.mutes[pair{reader, actor}]
}

func (m *model) apply(e event.Event) {
	switch d := e.Data.(type) {
	case *pb.PhotoPosted:
		author, post := d.GetPhoto().GetAuthorId(), d.GetPhoto().GetPostId()
		if m.deleted[pair{author, post}] {
			return
		}
		for _, user := range d.GetPhoto().GetMentions() {
			m.tell(user, modelRow{id: e.ID, kind: "mention", actor: author, post: post})
		}
		for edge, began := range m.wishes {
			if edge[1] == author && began < e.ID {
				m.tell(edge[0], modelRow{id: e.ID, kind: "post", actor: author, post: post})
			}
		}
	case *pb.PhotoDeleted:
		m.deleted[pair{d.GetAuthorId(), d.GetPostId()}] = true
	case *pb.UserFollowed:
		edge := pair{d.GetFollowerId(), d.GetFolloweeId()}
		begin(m.follows, edge, e.ID)
		if d.GetNotificationLevel() == levelEvery {
			begin(m.wishes, edge, e.ID)
		} else {
			delete(m.wishes, edge)
		}
		told := slices.ContainsFunc(m.inboxes[edge[1]], func(r modelRow) bool { return r.kind == "follow" && r.actor == edge[0] })
		if m.follows[edge] == e.ID && !told {
			m.tell(edge[1], modelRow{id: e.ID, kind: "follow", actor: edge[0]})
		}
	case *pb.UserUnfollowed:
		delete(m.follows, pair{d.GetFollowerId(), d.GetFolloweeId()})
		delete(m.wishes, pair{d.GetFollowerId(), d.GetFolloweeId()})
	case *pb.UserBlocked:
		m.blocks[pair{d.GetActorId(), d.GetTargetId()}] = true
	case *pb.UserUnblocked:
		delete(m.blocks, pair{d.GetActorId(), d.GetTargetId()})
	case *pb.UserMuted:
		m.mutes[pair{d.GetActorId(), d.GetTargetId()}] = true
	case *pb.UserUnmuted:
		delete(m.mutes, pair{d.GetActorId(), d.GetTargetId()})
	}
}

func begin(edges map[pair]event.ID, edge pair, id event.ID) {
	if _, there := edges[edge]; !there {
		edges[edge] = id
	}
}

// tell keeps the newest rows, each id once.
func (m *model) tell(user string, r modelRow) {
	rows := m.inboxes[user]
	if user == r.actor || !m.hears(user, r.actor) || slices.ContainsFunc(rows, func(o modelRow) bool { return o.id == r.id }) {
		return
	}
	rows = append(rows, r)
	slices.SortFunc(rows, func(a, b modelRow) int { return cmp.Compare(b.id, a.id) })
	m.inboxes[user] = rows[:min(len(rows), m.cap)]
}

func (m *model) mark(user string, id event.ID, upTo bool) {
	for i, r := range m.inboxes[user] {
		if r.id == id || (upTo && r.id < id) {
			m.inboxes[user][i].read = true
		}
	}
}

// shown returns what a user sees, as lines of the harness.
func (m *model) shown(user string) (rows []string, unread int) {
	rows = []string{}
	for _, r := range m.inboxes[user] {
		if !m.hears(user, r.actor) || m.deleted[pair{r.actor, r.post}] {
			continue
		}
		s := r.kind + " " + r.actor
		if r.post != "" {
			s += " " + r.post[15:]
		}
		if r.read {
			s += " read"
		} else {
			unread++
		}
		rows = append(rows, s)
	}
	return rows, unread
}

// story drives a Notify and the model with the same events. Events wait in lanes,
// one for each partition key, and are delivered lane by lane in any interleaving.
type story struct {
	*world

	model *model
	lanes map[string][]event.Event
	// done is what a lane has delivered.
	done  map[string][]event.Event
	posts []pair
}

var people = []string{"ann", "bob", "cid", "dan"}

func (s *story) two(t *rapid.T) (who, whom string) {
	i := rapid.IntRange(0, len(people)-1).Draw(t, "who")
	j := rapid.IntRange(1, len(people)-1).Draw(t, "whom")
	return people[i], people[(i+j)%len(people)]
}

func (s *story) accept(data proto.Message) {
	key, err := event.Key(data)
	if err != nil {
		s.t.Fatal(err)
	}
	s.lanes[key] = append(s.lanes[key], s.event(data))
}

// deliver gives the next event of a lane to both, to Notify perhaps repeatedly.
func (s *story) deliver(t *rapid.T) {
	key := rapid.SampledFrom(people).Draw(t, "lane")
	if len(s.lanes[key]) == 0 {
		return
	}
	e := s.lanes[key][0]
	s.lanes[key] = s.lanes[key][1:]
	s.done[key] = append(s.done[key], e)
	s.model.apply(e)
	for range rapid.IntRange(1, 2).Draw(t, "times") {
		s.handle(e)
	}
}

// rewind delivers the last events of a lane again, as after a crash. The model
// does not see it.
func (s *story) rewind(t *rapid.T) {
	done := s.done[rapid.SampledFrom(people).Draw(t, "lane")]
	for _, e := range done[len(done)-min(len(done), rapid.IntRange(1, 8).Draw(t, "events")):] {
		s.handle(e)
	}
}

func (s *story) mark(t *rapid.T) {
	user := rapid.SampledFrom(people).Draw(t, "user")
	rows := s.model.inboxes[user]
	if len(rows) == 0 {
		return
	}
	id := rapid.SampledFrom(rows).Draw(t, "row").id
	upTo := rapid.Bool().Draw(t, "upTo")
	s.model.mark(user, id, upTo)
	m := marks{also: []event.ID{id}, read: true}
	if upTo {
		m = marks{upTo: id, read: true}
	}
	if _, _, err := s.service.store.mark(context.Background(), user, m, 0); err != nil {
		s.t.Fatal(err)
	}
}

// check compares all inboxes, read in pages of any size, and the counts.
func (s *story) check(t *rapid.T) {
	for _, user := range people {
		want, unread := s.model.shown(user)
		got := []string{}
		req := &pb.ListNotificationsRequest{UserId: user, PageSize: rapid.Int32Range(1, 7).Draw(t, "size")}
		for {
			resp, err := s.service.ListNotifications(context.Background(), req)
			if err != nil {
				t.Fatal(err)
			}
			for _, n := range resp.GetNotifications() {
				got = append(got, line(n))
			}
			if int(resp.GetUnreadCount()) != unread {
				t.Fatalf("unread count of %s = %d, want %d of %v", user, resp.GetUnreadCount(), unread, want)
			}
			more := len(got) < len(want)
			if full := len(resp.GetNotifications()) == int(req.GetPageSize()); more != (resp.GetNextPageToken() != "") || (more && !full) {
				t.Fatalf("page of %d rows after %d of %d, next page %q", len(resp.GetNotifications()), len(got), len(want), resp.GetNextPageToken())
			}
			if !more {
				break
			}
			req.PageToken = resp.GetNextPageToken()
		}
		if diff := gocmp.Diff(want, got); diff != "" {
			t.Fatalf("inbox of %s (-want +got):\n%s", user, diff)
		}
	}
}

// Whatever people do, in whatever interleaving and however often the events come,
// everybody sees what the model says.
func TestInboxesAgreeWithTheModel(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		// crashes rewind lanes. Then blocks and mutes are not lifted: a post from
		// the time of a lifted block would be told when it comes again.
		crashes bool
	}{{"repeats", false}, {"crashes", true}} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			client := realRedis(t)
			rapid.Check(t, func(r *rapid.T) {
				if err := client.FlushAll(context.Background()).Err(); err != nil {
					r.Fatal(err)
				}
				const rows = 12
				s := &story{
					world: newWorld(t, client, Config{InboxRows: rows, PipelineSize: 2}),
					model: newModel(rows),
					lanes: map[string][]event.Event{},
					done:  map[string][]event.Event{},
				}
				s.t = r
				r.Repeat(s.actions(tt.crashes))
				for _, lane := range s.lanes {
					for _, e := range lane {
						s.model.apply(e)
						s.handle(e)
					}
				}
				s.check(r)
			})
		})
	}
}

func (s *story) actions(crashes bool) map[string]func(*rapid.T) {
	levels := rapid.SampledFrom([]pb.NotificationLevel{levelUnset, levelNo, levelEvery, levelEvery, levelEvery})
	actions := map[string]func(*rapid.T){
		"post": func(t *rapid.T) {
			author, _ := s.two(t)
			mentions := rapid.SliceOfNDistinct(rapid.SampledFrom(people), 0, 2, rapid.ID).Draw(t, "mentions")
			s.accept(posted(author, len(s.posts), mentions...))
			s.posts = append(s.posts, pair{author, fmt.Sprint(len(s.posts))})
		},
		"delete": func(t *rapid.T) {
			if len(s.posts) == 0 {
				return
			}
			n := rapid.IntRange(0, len(s.posts)-1).Draw(t, "post")
			author := s.posts[n][0]
			if rapid.IntRange(0, 3).Draw(t, "foreign") == 0 {
				author, _ = s.two(t)
			}
			s.accept(deleted(author, n))
		},
		"follow": func(t *rapid.T) {
			who, whom := s.two(t)
			s.accept(followed(who, whom, levels.Draw(t, "level")))
		},
		"unfollow": func(t *rapid.T) { who, whom := s.two(t); s.accept(unfollowed(who, whom)) },
		"block":    func(t *rapid.T) { who, whom := s.two(t); s.accept(blocked(who, whom)) },
		"mute":     func(t *rapid.T) { who, whom := s.two(t); s.accept(muted(who, whom)) },
		"mark":     s.mark,
		"check":    s.check,
		"deliver1": s.deliver,
		"deliver2": s.deliver,
		"deliver3": s.deliver,
		"deliver4": s.deliver,
	}
	if crashes {
		actions["crash"] = s.rewind
	} else {
		actions["unblock"] = func(t *rapid.T) { who, whom := s.two(t); s.accept(unblocked(who, whom)) }
		actions["unmute"] = func(t *rapid.T) { who, whom := s.two(t); s.accept(unmuted(who, whom)) }
	}
	return actions
}
