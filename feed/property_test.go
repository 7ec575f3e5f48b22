package feed

import (
	"context"
	"flag"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"activityfeed/internal/event"
	"activityfeed/internal/testenv"
	pb "activityfeed/proto/activityfeed/v1"
)

// model is the definition of ARCHITECTURE.md, in memory, over the log in its
// order.
type model struct {
	posts   map[string]string // id -> author
	deleted map[string]bool
	follows map[[2]string]bool
	blocks  map[[2]string]bool
	mutes   map[[2]string]bool
}

func newModel() *model {
	return &model{map[string]string{}, map[string]bool{}, map[[2]string]bool{}, map[[2]string]bool{}, map[[2]string]bool{}}
}

func (m *model) clone() *model {
	return &model{maps.Clone(m.posts), maps.Clone(m.deleted), maps.Clone(m.follows), maps.Clone(m.blocks), maps.Clone(m.mutes)}
}

func (m *model) apply(fact proto.Message) {
	switch d := fact.(type) {
	case *pb.PhotoPosted:
		m.posts[d.GetPhoto().GetPostId()] = d.GetPhoto().GetAuthorId()
	case *pb.PhotoDeleted:
		// Remembered with its author: it may come before the post.
		m.deleted[d.GetPostId()+d.GetAuthorId()] = true
	case *pb.UserFollowed:
		m.follows[[2]string{d.GetFollowerId(), d.GetFolloweeId()}] = true
	case *pb.UserUnfollowed:
		delete(m.follows, [2]string{d.GetFollowerId(), d.GetFolloweeId()})
	case *pb.UserBlocked:
		m.blocks[[2]string{d.GetActorId(), d.GetTargetId()}] = true
	case *pb.UserUnblocked:
		delete(m.blocks, [2]string{d.GetActorId(), d.GetTargetId()})
	case *pb.UserMuted:
		m.mutes[[2]string{d.GetActorId(), d.GetTargetId()}] = true
	case *pb.UserUnmuted:
		delete(m.mutes, [2]string{d.GetActorId(), d.GetTargetId()})
	}
}

func (m *model) list(member func(author string) bool) []string {
	ids := []string{}
	for id, author := range m.posts {
		if !m.deleted[id+author] && member(author) {
			ids = append(ids, id)
		}
	}
	return newestFirst(ids...)
}

func (m *model) blocked(a, b string) bool {
	return m.blocks[[2]string{a, b}] || m.blocks[[2]string{b, a}]
}

func (m *model) home(user string) []string {
	return m.list(func(author string) bool {
		return author == user ||
			m.follows[[2]string{user, author}] && !m.blocked(user, author) && !m.mutes[[2]string{user, author}]
	})
}

func (m *model) author(user, author string) []string {
	return m.list(func(a string) bool { return a == author && (user == author || !m.blocked(user, author)) })
}

// delivery is an event of the log and how often it was delivered in vain.
type delivery struct {
	event    event.Event
	edge     string // which edge it is about, "" if none
	attempts int
	begun    bool // it may have taken effect in part
}

// partition is the log of one key: what is before next was acked, what is before
// done was acked once and may come again after a crash.
type partition struct {
	log        []*delivery
	next, done int
}

// system is a feed in two processes, the log that it consumes, and the model.
type system struct {
	t         *rapid.T
	w         *world
	processes []*process
	// hosts make the ids of facts about edges, with clocks that differ by less than
	// the skew; postHosts those of posts, which may differ more, and be late.
	hosts, postHosts []*event.IDs
	keys             map[string]*partition
	model            *model // of what was delivered
	scroll           *scrolling
	users            []string
}

// scrolling is a user's way down a feed while the world goes on.
type scrolling struct {
	user, token string
	seen        []string
	// must holds what was visible all the way.
	must map[string]bool
}

var propertyUsers = []string{"ann", "bob", "cat", "dan"}

func (s *system) append(key, edge string, id event.ID, fact proto.Message) {
	if s.keys[key] == nil {
		s.keys[key] = &partition{}
	}
	e := event.Event{ID: id, Time: s.w.clock.Now(), Source: "test", Data: fact}
	s.keys[key].log = append(s.keys[key].log, &delivery{event: e, edge: edge})
}

func (s *system) user(label string) string { return rapid.SampledFrom(s.users).Draw(s.t, label) }

// author is often the same one, so that somebody has posts and followers enough.
func (s *system) author() string {
	if rapid.Bool().Draw(s.t, "star") {
		return s.users[0]
	}
	return s.user("author")
}

func (s *system) pair() (a, b string) {
	a = s.user("a")
	b = rapid.SampledFrom(slices.DeleteFunc(slices.Clone(s.users), func(u string) bool { return u == a })).Draw(s.t, "b")
	return a, b
}

func (s *system) host(hosts []*event.IDs) *event.IDs {
	return rapid.SampledFrom(hosts).Draw(s.t, "host")
}

// Post appends one to five posts of an author.
func (s *system) Post(*rapid.T) {
	author := s.author()
	for range rapid.IntRange(1, 5).Draw(s.t, "posts") {
		id := s.host(s.postHosts).Next()
		s.append(author, "", s.w.ids.Next(), posted(author, id, s.w.clock.Now()))
	}
}

// Delete appends a delete, sometimes of somebody else's post.
func (s *system) Delete(*rapid.T) {
	var ids []string
	authors := map[string]string{}
	for _, p := range s.keys {
		for _, d := range p.log {
			if fact, ok := d.event.Data.(*pb.PhotoPosted); ok {
				ids = append(ids, fact.GetPhoto().GetPostId())
				authors[fact.GetPhoto().GetPostId()] = fact.GetPhoto().GetAuthorId()
			}
		}
	}
	if len(ids) == 0 {
		s.t.Skip("no posts")
	}
	id := rapid.SampledFrom(newestFirst(ids...)).Draw(s.t, "id")
	author := authors[id]
	if rapid.IntRange(0, 3).Draw(s.t, "foreign") == 0 {
		author = s.user("author")
	}
	s.append(author, "", s.w.ids.Next(), deleted(author, id))
}

func (s *system) edge(kind string, byTarget bool, on, off func(a, b string) proto.Message) {
	a, b := s.pair()
	fact, key := on(a, b), a
	if rapid.IntRange(0, 2).Draw(s.t, "end") == 0 {
		fact = off(a, b)
	}
	if byTarget {
		key = b
	}
	s.append(key, kind+a+b, s.host(s.hosts).Next(), fact)
}

// Follow appends a follow or an unfollow.
func (s *system) Follow(*rapid.T) {
	s.edge("follow", true, func(a, b string) proto.Message { return followed(a, b) },
		func(a, b string) proto.Message { return unfollowed(a, b) })
}

// Crowd makes all others follow an author, or leave them, so that the author passes
// the bounds between pushing and merging. One of them stays, whose list must survive
// that.
func (s *system) Crowd(*rapid.T) {
	author, leave := s.author(), rapid.Bool().Draw(s.t, "leave")
	loyal := s.user("loyal")
	for _, user := range s.users {
		switch {
		case user == author || user == loyal && leave:
		case leave:
			s.append(author, "follow"+user+author, s.host(s.hosts).Next(), unfollowed(user, author))
		default:
			s.append(author, "follow"+user+author, s.host(s.hosts).Next(), followed(user, author))
		}
	}
	s.append(author, "", s.w.ids.Next(), posted(author, s.w.ids.Next(), s.w.clock.Now()))
	p, other := s.pick()
	part := s.keys[author]
	s.deliverAll(p, author, len(part.log)-part.next-1)
	fails := s.disturb(p, other, author, loyal)
	err := s.deliverNext(p, author) // the post, which turns its author
	if p.tap.disarm(); err != nil && !fails {
		s.t.Fatalf("deliver: %v", err)
	}
	s.check(other, loyal)
}

// Block appends a block or an unblock.
func (s *system) Block(*rapid.T) {
	s.edge("block", false, func(a, b string) proto.Message { return &pb.UserBlocked{ActorId: a, TargetId: b} },
		func(a, b string) proto.Message { return &pb.UserUnblocked{ActorId: a, TargetId: b} })
}

// Mute appends a mute or an unmute.
func (s *system) Mute(*rapid.T) {
	s.edge("mute", false, func(a, b string) proto.Message { return &pb.UserMuted{ActorId: a, TargetId: b} },
		func(a, b string) proto.Message { return &pb.UserUnmuted{ActorId: a, TargetId: b} })
}

// Wait lets time pass: within freshness, across it, and beyond the disorder.
func (s *system) Wait(*rapid.T) {
	s.w.clock.Advance(rapid.SampledFrom([]time.Duration{
		time.Second, 20 * time.Second, 65 * time.Second, 5 * time.Minute,
	}).Draw(s.t, "wait"))
}

// pending returns the keys with something to deliver, but for one.
func (s *system) pending(but string) []string {
	var keys []string
	for key, p := range s.keys {
		if p.next < len(p.log) && key != but {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	return keys
}

// deliverNext delivers the next event of a key to a process. A failure leaves it
// there, to be delivered again.
func (s *system) deliverNext(p *process, key string) error {
	part := s.keys[key]
	d := part.log[part.next]
	d.attempts++
	d.begun = true
	s.touch(d.event.Data)
	if err := p.deliver(s.t.Context(), d.event, d.attempts); err != nil {
		return err
	}
	d.attempts, d.begun = 0, false
	if part.next++; part.next > part.done {
		part.done = part.next
		s.model.apply(d.event.Data)
	}
	return nil
}

// touch takes out of what a scroll must show what an event may hide.
func (s *system) touch(fact proto.Message) {
	if s.scroll == nil {
		return
	}
	after := s.model.clone()
	after.apply(fact)
	visible := map[string]bool{}
	for _, id := range after.home(s.scroll.user) {
		visible[id] = true
	}
	maps.DeleteFunc(s.scroll.must, func(id string, _ bool) bool { return !visible[id] })
}

// disturb arms the tap of a process: in the middle of what it does next, the other
// process does something else that touches a user; or a call fails, before or after
// its effect. key is being delivered and must not be. It returns whether an error
// may come of it.
func (s *system) disturb(p, other *process, key, user string) (fails bool) {
	kind := rapid.SampledFrom([]string{"calm", "deliver", "read", "follow", "post", "fail", "lose"}).Draw(s.t, "disturbance")
	call := rapid.IntRange(1, 9).Draw(s.t, "at call")
	n := rapid.IntRange(1, 4).Draw(s.t, "events")
	losing := rapid.IntRange(0, 3).Draw(s.t, "losing") == 0
	reading := rapid.Bool().Draw(s.t, "reading")
	late, end := rapid.Bool().Draw(s.t, "late"), rapid.Bool().Draw(s.t, "end")
	var before func()
	switch kind {
	case "calm":
		return false
	case "fail":
		p.tap.arm(0, nil, call, late)
		return true
	case "read":
		before = func() { s.read(other, user, 3, false) }
	case "lose":
		before = func() { s.w.raw.Del(s.t.Context(), feedKey(user)) }
	case "deliver":
		keys := s.pending(key)
		if len(keys) == 0 {
			return false
		}
		between := rapid.SampledFrom(keys).Draw(s.t, "key in between")
		before = func() { s.deliverAll(other, between, n) }
	case "follow", "post":
		author := s.user("author in between")
		if author == key || author == user {
			return false
		}
		before = func() {
			switch {
			case kind == "post":
				s.append(author, "", s.w.ids.Next(), posted(author, s.w.ids.Next(), s.w.clock.Now()))
			case end:
				s.append(author, "follow"+user+author, s.w.ids.Next(), unfollowed(user, author))
			default:
				s.append(author, "follow"+user+author, s.w.ids.Next(), followed(user, author))
			}
			s.deliverAll(other, author, 1000)
		}
	}
	p.tap.arm(call, func() {
		if losing {
			s.w.raw.Del(s.t.Context(), feedKey(user))
		}
		before()
		if reading {
			s.read(other, user, 3, false)
		}
	}, 0, false)
	return false
}

// deliverAll delivers the next n events of a key.
func (s *system) deliverAll(p *process, key string, n int) {
	for part := s.keys[key]; n > 0 && part.next < len(part.log); n-- {
		s.must(s.deliverNext(p, key), "deliver in between")
	}
}

// subject is a user whose feed an event touches.
func (s *system) subject(fact proto.Message) string {
	switch d := fact.(type) {
	case *pb.UserFollowed:
		return d.GetFollowerId()
	case *pb.UserUnfollowed:
		return d.GetFollowerId()
	case interface{ GetActorId() string }:
		return d.GetActorId()
	}
	return s.user("subject")
}

func (s *system) must(err error, what string) {
	if err != nil {
		s.t.Fatalf("%s: %v", what, err)
	}
}

func (s *system) pick() (p, other *process) {
	i := rapid.IntRange(0, 1).Draw(s.t, "process")
	return s.processes[i], s.processes[1-i]
}

// Deliver delivers a few events of one key.
func (s *system) Deliver(*rapid.T) {
	keys := s.pending("")
	if len(keys) == 0 {
		s.t.Skip("nothing to deliver")
	}
	key := rapid.SampledFrom(keys).Draw(s.t, "key")
	p, other := s.pick()
	for range rapid.IntRange(1, 6).Draw(s.t, "events") {
		if s.keys[key].next == len(s.keys[key].log) {
			return
		}
		part := s.keys[key]
		user := s.subject(part.log[part.next].event.Data)
		fails := s.disturb(p, other, key, user)
		err := s.deliverNext(p, key)
		p.tap.disarm()
		if err != nil && !fails {
			s.t.Fatalf("deliver: %v", err)
		}
		s.check(other, user)
	}
}

// Crash gives a key back to the log: some of what was acked comes again, in order,
// as a first delivery.
func (s *system) Crash(*rapid.T) {
	s.scroll = nil // an unfollow may come undone for a while
	for _, key := range slices.Sorted(maps.Keys(s.keys)) {
		part := s.keys[key]
		part.next -= rapid.IntRange(0, min(part.next, 6)).Draw(s.t, "back")
		for _, d := range part.log {
			d.attempts = 0
		}
	}
}

// Replay delivers one old event again, out of its order, as from the retry topic or
// by a process that was stopped; events of the same key may come in the middle.
func (s *system) Replay(*rapid.T) {
	var keys []string
	for key, part := range s.keys {
		if part.next > 0 {
			keys = append(keys, key)
		}
	}
	if len(keys) == 0 {
		s.t.Skip("nothing was delivered")
	}
	slices.Sort(keys)
	part := s.keys[rapid.SampledFrom(keys).Draw(s.t, "key")]
	i := rapid.IntRange(0, part.next-1).Draw(s.t, "i")
	d := part.log[i]
	for _, later := range part.log[i+1:] {
		if d.edge != "" && later.edge == d.edge && later.event.ID.Time().Sub(d.event.ID.Time()) <= clockSkew {
			s.t.Skip("two facts about one edge within the skew")
		}
	}
	// What comes in between must not be about the same edge within the skew either.
	p, other := s.pick()
	if d.edge != "" && s.w.clock.Now().Sub(d.event.ID.Time()) <= 2*clockSkew {
		s.t.Skip("too young")
	}
	user := s.subject(d.event.Data)
	fails := s.disturb(p, other, "", user)
	err := p.deliver(s.t.Context(), d.event, rapid.IntRange(1, 2).Draw(s.t, "attempt"))
	p.tap.disarm()
	if fails && err != nil {
		// A replay that failed is tried again until it succeeds.
		err = p.deliver(s.t.Context(), d.event, 2)
	}
	s.must(err, "replay")
	s.check(other, user)
}

// Lose takes a key of a home feed, or the scripts, from Redis.
func (s *system) Lose(*rapid.T) {
	s.w.raw.Del(s.t.Context(), feedKey(s.user("user")))
	if rapid.IntRange(0, 5).Draw(s.t, "scripts") == 0 {
		s.w.raw.ScriptFlush(s.t.Context())
	}
}

// Restart makes a process forget what it has in memory, perhaps with other bounds
// for large authors: the two processes may differ, as in the middle of a roll-out.
func (s *system) Restart(*rapid.T) {
	p, _ := s.pick()
	s.restart(p)
}

func (s *system) restart(p *process) {
	cfg := Config{Cap: rapid.SampledFrom([]int{5, 12}).Draw(s.t, "cap"), Slack: 2, PipelineSize: 2, ColdAfter: 15 * time.Minute}
	cfg.LargeAuthor = rapid.SampledFrom([]int{1, 2, 2, -1}).Draw(s.t, "large")
	cfg.SmallAuthor = rapid.IntRange(1, max(1, cfg.LargeAuthor)).Draw(s.t, "small")
	p.tap.disarm()
	p.restart(s.t, cfg)
	p.store.ahead = 1 // so that lists are read in parts
}

// Flush empties Redis: the whole log comes again.
func (s *system) Flush(*rapid.T) {
	if rapid.IntRange(0, 9).Draw(s.t, "really") > 0 {
		return
	}
	s.scroll = nil
	s.must(s.w.flush(s.t.Context()), "flush")
	for _, part := range s.keys {
		part.next, part.done = 0, 0
		for _, d := range part.log {
			d.attempts, d.begun = 0, false
		}
	}
	s.model = newModel()
}

// Read reads a home feed at any moment.
func (s *system) Read(*rapid.T) {
	p, other := s.pick()
	user, size := s.user("user"), rapid.Int32Range(1, 12).Draw(s.t, "size")
	if rapid.Bool().Draw(s.t, "cold") {
		s.w.raw.Del(s.t.Context(), feedKey(user))
	}
	fails := s.disturb(p, other, "", user)
	s.read(p, user, size, fails)
	p.tap.disarm()
	s.check(p, user)
}

func (s *system) read(p *process, user string, size int32, fails bool) {
	if _, err := p.home(s.t.Context(), user, size, false); err != nil && !fails {
		s.t.Fatalf("home(%s): %v", user, err)
	}
}

// Scroll reads one more page of a feed that is being scrolled.
func (s *system) Scroll(*rapid.T) {
	p, other := s.pick()
	if s.scroll == nil {
		if !s.settled() {
			return
		}
		s.scroll = &scrolling{user: s.user("user"), must: map[string]bool{}}
		for _, id := range s.model.home(s.scroll.user) {
			s.scroll.must[id] = true
		}
	}
	sc, size := s.scroll, rapid.Int32Range(1, 7).Draw(s.t, "size")
	s.disturb(p, other, "", sc.user)
	r, err := p.api.GetHomeFeed(s.t.Context(), &pb.GetHomeFeedRequest{UserId: sc.user, PageSize: size, PageToken: sc.token})
	p.tap.disarm()
	if err != nil {
		return // the same page again next time
	}
	sc.seen, err = appendPage(sc.seen, false, r.GetPhotos(), size, r.GetNextPageToken(), r.GetHasMore())
	s.must(err, "scroll of "+sc.user)
	sc.token = r.GetNextPageToken()
	if r.GetHasMore() {
		return
	}
	for id := range sc.must {
		if !slices.Contains(sc.seen, id) {
			s.t.Fatalf("scroll of %s: post %s was there all the while and was not shown; shown %v", sc.user, id, sc.seen)
		}
	}
	s.scroll = nil
}

// settled says that every event has taken effect as a whole or not at all, so that
// the API must say what the model says.
func (s *system) settled() bool {
	for _, part := range s.keys {
		if part.unsettled() {
			return false
		}
	}
	return true
}

func (p *partition) unsettled() bool {
	return p.next < p.done || p.next < len(p.log) && p.log[p.next].begun
}

// settle ends what was begun: retries, and what a crash brought back.
func (s *system) settle() {
	for _, key := range slices.Sorted(maps.Keys(s.keys)) {
		for s.keys[key].unsettled() {
			p, _ := s.pick()
			s.must(s.deliverNext(p, key), "settle")
		}
	}
}

// check compares the feeds of a user with the model.
func (s *system) check(p *process, user string) {
	if !s.settled() {
		if rapid.Bool().Draw(s.t, "leave") {
			return
		}
		s.settle()
	}
	size := rapid.SampledFrom([]int32{1, 2, 5, 100}).Draw(s.t, "size")
	got, err := p.home(s.t.Context(), user, size, true)
	s.must(err, "home of "+user)
	if want := s.model.home(user); !slices.Equal(got, want) {
		s.t.Fatalf("home(%s) in pages of %d differs\ngot  %v\nwant %v\nlist %v", user, size, got, want,
			s.w.raw.LRange(s.t.Context(), feedKey(user), 0, -1).Val())
	}
	author := s.user("author")
	got, err = p.authorFeed(s.t.Context(), user, author, size)
	s.must(err, "author feed")
	if want := s.model.author(user, author); !slices.Equal(got, want) {
		s.t.Fatalf("author feed of %s for %s differs\ngot  %v\nwant %v", author, user, got, want)
	}
}

// Settle delivers everything and checks every feed.
func (s *system) Settle(*rapid.T) {
	for keys := s.pending(""); len(keys) > 0; keys = s.pending("") {
		p, _ := s.pick()
		s.must(s.deliverNext(p, keys[len(keys)/2]), "settle")
	}
	p, _ := s.pick()
	for _, user := range s.users {
		s.check(p, user)
	}
}

// checkProperty plays random worlds against the model.
func checkProperty(t *testing.T, w *world) {
	processes := []*process{w.process(t, Config{}), w.process(t, Config{})}
	rapid.Check(t, func(rt *rapid.T) {
		if err := w.flush(context.Background()); err != nil {
			rt.Fatal(err)
		}
		s := &system{t: rt, w: w, keys: map[string]*partition{}, model: newModel(), users: propertyUsers, processes: processes}
		for _, p := range processes {
			s.restart(p)
		}
		for i, skew := range []time.Duration{900 * time.Millisecond, -900 * time.Millisecond, 20 * time.Second, -20 * time.Second, -3 * time.Minute} {
			ids, err := event.NewIDs(10+i, func() time.Time { return w.clock.Now().Add(skew) })
			if err != nil {
				rt.Fatal(err)
			}
			if i < 2 {
				s.hosts = append(s.hosts, ids)
			}
			s.postHosts = append(s.postHosts, ids)
		}
		rt.Repeat(map[string]func(*rapid.T){
			"post": s.Post, "post2": s.Post, "delete": s.Delete, "follow": s.Follow, "follow2": s.Follow,
			"block": s.Block, "block2": s.Block, "mute": s.Mute, "wait": s.Wait, "wait2": s.Wait,
			"deliver": s.Deliver, "deliver2": s.Deliver, "deliver3": s.Deliver,
			"crowd": s.Crowd, "crowd2": s.Crowd, "restart": s.Restart, "crash": s.Crash, "replay": s.Replay, "replay2": s.Replay, "lose": s.Lose, "flush": s.Flush, "rebuild": s.Rebuild,
			"read": s.Read, "read2": s.Read, "read3": s.Read, "scroll": s.Scroll, "scroll2": s.Scroll, "settle": s.Settle,
		})
		s.Settle(rt)
	})
	for _, p := range processes {
		m := p.store.metrics
		t.Logf("authors turned to merging %v times, to pushing %v; %v reads merged, %v lists built, %v pushes placed with care",
			testenv.Value(t, m.turns.WithLabelValues("merged")), testenv.Value(t, m.turns.WithLabelValues("pushed")),
			testenv.Value(t, m.mergedReads), testenv.Value(t, m.rebuilds.WithLabelValues("built")), testenv.Value(t, m.carefulPushes))
	}
}

func TestPropertyFeedsEqualTheModel(t *testing.T) {
	t.Parallel()
	printSeed(t)
	onEngines(t, checkProperty)
}

// printSeed chooses the seed of the worlds, unless -rapid.seed does, and tells it.
// The number of worlds lets 20 runs end within the ten minutes of go test even on a
// busy machine; -rapid.checks asks for another one.
func printSeed(t *testing.T) {
	checks, seed := flag.Lookup("rapid.checks"), flag.Lookup("rapid.seed").Value
	if checks.Value.String() == checks.DefValue {
		if err := checks.Value.Set("50"); err != nil {
			t.Fatal(err)
		}
	}
	if seed.String() == "0" {
		if err := seed.Set(strconv.FormatUint(rand.Uint64N(1<<32)+1, 10)); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = seed.Set("0") }) // the next count has its own
	}
	t.Logf("to reproduce: -rapid.seed=%s", seed)
}
