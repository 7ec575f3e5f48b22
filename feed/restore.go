package feed

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/redis/go-redis/v9"
	"golang.org/x/sync/errgroup"

	"activityfeed/internal/event"
	"activityfeed/internal/redisfault"
	pb "activityfeed/proto/activityfeed/v1"
)

// restoresAtOnce is how many facts are written at once; the batcher makes
// pipelines of them.
const restoresAtOnce = 256

// Restore writes what the log says into a projection that serves and is written
// all the while, a partition of the log after the other:
//
//	Fold each fact of the partition, Settle; Take each of them again; ... Finish
//
// Fold only remembers, and what an older fact said is forgotten for a newer one, so
// nothing that has ended shows up again on the way. Settle writes the edges as they
// are in the end, the ends that late facts might contradict, and the read
// positions; Take lists the posts that were not deleted and writes their bodies.
// Each write is the one that the consumer would have made: it yields to what the
// consumer has made of newer facts meanwhile, and can be repeated. What the log
// does not speak of stays as it is, since a log may have forgotten its beginning.
// Finish drops every stored home feed, which may have been built from half the
// posts, and builds again those that were there, so that their readers need not.
//
// A Restore that ends in the middle has done no harm: the next one begins anew. It
// takes about 60 bytes for each edge, delete and user of a partition. A Restore is
// not safe for concurrent use.
type Restore struct {
	store *redisStore
	// only holds those whom it is about; nil means all.
	only map[string]bool
	// pace waits until that many commands may go to Redis.
	pace func(ctx context.Context, commands int) error

	users map[string]uint32
	names []string
	edges map[folded]foldedEdge
	tombs map[tomb]struct{}
	seen  map[uint32]event.ID

	counts struct{ edges, ended, posts, deletes, positions, feeds atomic.Int64 }
}

// RestoreCounts is what a [Restore] has written so far.
type RestoreCounts struct {
	// Edges are follows, blocks and mutes that stand, Ended those that ended.
	Edges, Ended int64
	// Posts are those that were not deleted, Deletes the others.
	Posts, Deletes int64
	// Positions are read positions, Feeds home feeds that were built again.
	Positions, Feeds int64
}

type (
	folded struct {
		rel      foldedRelation
		from, to uint32
	}
	foldedRelation uint8
	foldedEdge     struct {
		version event.ID
		set     bool
	}
	tomb struct {
		author uint32
		post   event.ID
	}
)

const (
	foldedFollow foldedRelation = iota
	foldedBlock
	foldedMute
)

// Restore returns a Restore of what concerns the users named, or of everything if
// none is. pace is asked before commands go to Redis; nil means at full speed.
func (f *Feed) Restore(only []string, pace func(ctx context.Context, commands int) error) *Restore {
	if pace == nil {
		pace = func(context.Context, int) error { return nil }
	}
	r := &Restore{store: f.store, pace: pace, users: map[string]uint32{}}
	if len(only) > 0 {
		r.only = map[string]bool{}
		for _, user := range only {
			r.only[user] = true
			r.user(user)
		}
	}
	r.forget()
	return r
}

// Counts returns what was written so far.
func (r *Restore) Counts() RestoreCounts {
	c := &r.counts
	return RestoreCounts{c.edges.Load(), c.ended.Load(), c.posts.Load(), c.deletes.Load(), c.positions.Load(), c.feeds.Load()}
}

// Fold remembers a fact of the partition.
func (r *Restore) Fold(e event.Event) error {
	switch d := e.Data.(type) {
	case *pb.PhotoPosted:
		r.concerns(d.GetPhoto().GetAuthorId())
	case *pb.PhotoDeleted:
		id, err := event.ParseID(d.GetPostId())
		if err != nil {
			return fmt.Errorf("feed: delete by %s: %w", d.GetAuthorId(), err)
		}
		if r.concerns(d.GetAuthorId()) {
			r.tombs[tomb{r.user(d.GetAuthorId()), id}] = struct{}{}
		}
	case *pb.UserFollowed:
		r.edge(e.ID, foldedFollow, d.GetFollowerId(), d.GetFolloweeId(), true)
	case *pb.UserUnfollowed:
		r.edge(e.ID, foldedFollow, d.GetFollowerId(), d.GetFolloweeId(), false)
	case *pb.UserBlocked:
		r.edge(e.ID, foldedBlock, d.GetActorId(), d.GetTargetId(), true)
	case *pb.UserUnblocked:
		r.edge(e.ID, foldedBlock, d.GetActorId(), d.GetTargetId(), false)
	case *pb.UserMuted:
		r.edge(e.ID, foldedMute, d.GetActorId(), d.GetTargetId(), true)
	case *pb.UserUnmuted:
		r.edge(e.ID, foldedMute, d.GetActorId(), d.GetTargetId(), false)
	case *pb.UserSawFeed:
		id, err := event.ParseID(d.GetPostId())
		if err != nil {
			return fmt.Errorf("feed: position of %s: %w", d.GetUserId(), err)
		}
		if r.concerns(d.GetUserId()) {
			r.seen[r.user(d.GetUserId())] = max(id, r.seen[r.user(d.GetUserId())])
		}
	}
	return nil
}

// Settle writes what Fold remembers of the partition, but for the deletes, which
// Take needs.
func (r *Restore) Settle(ctx context.Context) error {
	g, ctx := r.workers(ctx)
	for key, e := range r.edges {
		g.Go(func() error { return r.link(ctx, key, e) })
	}
	for user, id := range r.seen {
		g.Go(func() error {
			r.counts.positions.Add(1)
			return r.write(ctx, 1, func() error { return r.store.see(ctx, r.names[user], id) })
		})
	}
	for t := range r.tombs {
		g.Go(func() error {
			r.counts.deletes.Add(1)
			return r.write(ctx, 2, func() error {
				_, err := r.store.remove(ctx, r.names[t.author], t.post)
				return err
			})
		})
	}
	clear(r.edges)
	clear(r.seen)
	return g.Wait()
}

// Take writes those of the partition's facts that are posts, and returns when they
// are written. It takes as many as are at hand.
func (r *Restore) Take(ctx context.Context, facts []event.Event) error {
	g, ctx := r.workers(ctx)
	for _, e := range facts {
		posted, ok := e.Data.(*pb.PhotoPosted)
		if !ok || !r.concerns(posted.GetPhoto().GetAuthorId()) {
			continue
		}
		photo := posted.GetPhoto()
		id, err := event.ParseID(photo.GetPostId())
		if err != nil {
			return errors.Join(fmt.Errorf("feed: post of %s: %w", photo.GetAuthorId(), err), g.Wait())
		}
		if _, deleted := r.tombs[tomb{r.user(photo.GetAuthorId()), id}]; deleted {
			continue
		}
		g.Go(func() error { return r.post(ctx, id, photo) })
	}
	return g.Wait()
}

// Next ends a partition.
func (r *Restore) Next() { r.forget() }

// Users returns how many home feeds Finish looks at.
func (r *Restore) Users() int { return len(r.names) }

// Finish drops the stored home feeds, after the last partition, and builds those
// again that were there. It tells of each user.
func (r *Restore) Finish(ctx context.Context, done func()) error {
	g, ctx := r.workers(ctx)
	for _, user := range r.names {
		g.Go(func() error {
			defer done()
			return r.write(ctx, 1, func() error { return r.anew(ctx, user) })
		})
	}
	return g.Wait()
}

func (r *Restore) anew(ctx context.Context, user string) error {
	if r.only != nil && !r.only[user] {
		return nil
	}
	drop := redis.NewIntCmd(ctx, "del", feedKey(user), pulledKey(user))
	if err := r.store.writes.do(ctx, drop); err != nil {
		return redisfault.Of(err, "drop feed of %s", user)
	}
	if drop.Val() == 0 {
		return nil
	}
	r.counts.feeds.Add(1)
	return r.store.build(ctx, user)
}

func (r *Restore) link(ctx context.Context, key folded, e foldedEdge) error {
	if e.set {
		r.counts.edges.Add(1)
	} else {
		r.counts.ended.Add(1)
	}
	fact := edge{rel: mutes, from: r.names[key.from], to: r.names[key.to], version: e.version, set: e.set}
	switch key.rel {
	case foldedFollow:
		fact.rel, fact.reverse = following, followers
	case foldedBlock:
		fact.rel, fact.reverse = blocks, blockedBy
	case foldedMute:
	}
	return r.write(ctx, 2, func() error { return r.store.link(ctx, fact) })
}

// post lists a post and writes its body. A delete that the consumer handles at the
// same time finds the one or the other, or leaves its tombstone first: so the body
// tells in the end.
func (r *Restore) post(ctx context.Context, id event.ID, photo *pb.Photo) error {
	author := photo.GetAuthorId()
	value, err := encodePost(photo)
	if err != nil {
		return err
	}
	return r.write(ctx, 2, func() error {
		enlist := authorScript.Int(ctx, []string{authorKey(author)}, id.String())
		body := restoreScript.Int(ctx, []string{postKey(id)}, author, value)
		if err := r.store.writes.do(ctx, enlist); err != nil {
			return redisfault.Of(err, "list post %s of %s", id, author)
		}
		if err := r.store.writes.do(ctx, body); err != nil {
			return redisfault.Of(err, "restore post %s of %s", id, author)
		}
		if body.Val() == 0 {
			return r.store.unlist(ctx, author, id)
		}
		r.counts.posts.Add(1)
		return nil
	})
}

// write does the work when that many commands may go, and again while Redis is
// away.
func (r *Restore) write(ctx context.Context, commands int, work func() error) error {
	return redisfault.Outlast(ctx, r.store.now, func() error {
		if err := r.pace(ctx, commands); err != nil {
			return err
		}
		return work()
	})
}

// workers bound the facts that are written at once.
func (r *Restore) workers(ctx context.Context) (*errgroup.Group, context.Context) {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(restoresAtOnce)
	return g, ctx
}

// edge folds a fact about two users as lua/link.lua does: of two facts within the
// skew of hosts' clocks the later in the log counts, else the newer.
func (r *Restore) edge(version event.ID, rel foldedRelation, from, to string, set bool) {
	if a, b := r.concerns(from), r.concerns(to); !a && !b {
		return
	}
	key := folded{rel, r.user(from), r.user(to)}
	known, ok := r.edges[key]
	if ok && known.version > shift(version, clockSkew) {
		return
	}
	r.edges[key] = foldedEdge{max(version, known.version), set}
}

// concerns says whether a user is among those whom this is about, and remembers
// them if so.
func (r *Restore) concerns(user string) bool {
	if r.only != nil {
		return r.only[user]
	}
	r.user(user)
	return true
}

// user returns the number of a name.
func (r *Restore) user(name string) uint32 {
	n, known := r.users[name]
	if !known {
		n = uint32(len(r.names))
		r.users[name] = n
		r.names = append(r.names, name)
	}
	return n
}

func (r *Restore) forget() {
	r.edges, r.tombs, r.seen = map[folded]foldedEdge{}, map[tomb]struct{}{}, map[uint32]event.ID{}
}
