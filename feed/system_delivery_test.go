package feed

import (
	"maps"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	pb "activityfeed/proto/activityfeed/v1"
)

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
