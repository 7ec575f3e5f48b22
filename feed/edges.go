package feed

import (
	"context"
	"crypto/rand"

	"github.com/redis/go-redis/v9"

	"activityfeed/internal/event"
	"activityfeed/internal/redisfault"
)

// edge is a fact about two users: from one of them it is in rel, seen from the
// other one in reverse ("" if the other one's side is not kept).
type edge struct {
	rel, reverse relation
	from, to     string
	// version is the id of the event: of two facts the newer one counts, in
	// whatever order they come.
	version event.ID
	// set says that the edge begins, else it ends.
	set bool
}

// link keeps a fact about an edge on both sides, to's side first: a reader who
// sees that they follow somebody can rely on being among the followers.
func (s *redisStore) link(ctx context.Context, e edge) error {
	if e.reverse != "" {
		if err := s.linkSide(ctx, e.reverse, e.to, e.from, e.version, e.set); err != nil {
			return err
		}
	}
	return s.linkSide(ctx, e.rel, e.from, e.to, e.version, e.set)
}

func (s *redisStore) linkSide(ctx context.Context, rel relation, user, other string, version event.ID, set bool) error {
	on, keys := "0", []string{rel.key(user), rel.goneKey(user)}
	if set {
		on = "1"
	}
	if rel != followers {
		keys = append(keys, editionKey(user))
	}
	// The name of the generation, or of the edition, is random, not counted: a counter
	// that is lost with the store would come back to numbers that a cache still holds.
	overruled := shift(version, clockSkew)
	cmd := linkScript.Int(ctx, keys,
		other, version.String(), overruled.String(), on, s.cfg.TombstoneTTL.Milliseconds(), rand.Text())
	if err := s.writes.do(ctx, cmd); err != nil {
		return redisfault.Of(err, "link %s of %s", rel, user)
	}
	if cmd.Val() == 0 {
		s.metrics.staleEdges.Inc()
	}
	return nil
}

// drop forgets the list of a home feed; the next read builds it anew. An edge
// must be kept before: a build that runs meanwhile sees the new edge, or loses
// its marker to this.
func (s *redisStore) drop(ctx context.Context, user string) error {
	cmd := redis.NewIntCmd(ctx, "del", feedKey(user), pulledKey(user))
	return redisfault.Of(s.writes.do(ctx, cmd), "drop feed of %s", user)
}

// view is what a reader may see of some authors.
type view struct {
	// followed and muted hold authors among those asked for.
	followed, muted map[string]bool
	// blocked holds those who block the reader or are blocked by them.
	blocked map[string]bool
}

// viewOf asks what user may see of the authors.
func (s *redisStore) viewOf(ctx context.Context, user string, authors []string) (view, error) {
	v := view{followed: map[string]bool{}, muted: map[string]bool{}, blocked: map[string]bool{}}
	if len(authors) == 0 {
		return v, nil
	}
	relations := []struct {
		rel  relation
		into map[string]bool
	}{{following, v.followed}, {mutes, v.muted}, {blocks, v.blocked}, {blockedBy, v.blocked}}
	cmds := make([]*redis.SliceCmd, len(relations))
	for i, r := range relations {
		args := make([]any, 0, 2+len(authors))
		args = append(args, "hmget", r.rel.key(user))
		for _, author := range authors {
			args = append(args, author)
		}
		cmds[i] = redis.NewSliceCmd(ctx, args...)
	}
	if err := s.ask(ctx, erased(cmds)...); err != nil {
		return view{}, redisfault.Of(err, "read edges of %s", user)
	}
	for i, r := range relations {
		for j, version := range cmds[i].Val() {
			if version != nil {
				r.into[authors[j]] = true
			}
		}
	}
	return v, nil
}

// home says whether a post of the author belongs into the home feed of user.
func (v view) home(user, author string) bool {
	return author == user || v.followed[author] && !v.muted[author] && !v.blocked[author]
}

// sources returns the authors of whom a home feed is made, as it is now: the user,
// then the followees who are not hidden.
func (s *redisStore) sources(ctx context.Context, user string) ([]string, error) {
	relations := []relation{following, mutes, blocks, blockedBy}
	cmds := make([]*redis.StringSliceCmd, len(relations))
	for i, rel := range relations {
		cmds[i] = redis.NewStringSliceCmd(ctx, "hkeys", rel.key(user))
	}
	if err := s.exec(ctx, erased(cmds)); err != nil {
		return nil, redisfault.Of(err, "read followees of %s", user)
	}
	hidden := map[string]bool{user: true}
	for _, cmd := range cmds[1:] {
		for _, other := range cmd.Val() {
			hidden[other] = true
		}
	}
	authors := []string{user}
	for _, author := range cmds[0].Val() {
		if !hidden[author] {
			authors = append(authors, author)
		}
	}
	return authors, nil
}

// bondsOf returns what a user is to everybody, for the live feeds.
func (s *redisStore) bondsOf(ctx context.Context, user string) (map[string]bond, error) {
	relations := []struct {
		rel  relation
		bond bond
	}{{following, bondFollows}, {mutes, bondMutes}, {blocks, bondBlocks}, {blockedBy, bondBlockedBy}}
	cmds := make([]*redis.StringSliceCmd, len(relations))
	for i, r := range relations {
		cmds[i] = redis.NewStringSliceCmd(ctx, "hkeys", r.rel.key(user))
	}
	if err := s.exec(ctx, erased(cmds)); err != nil {
		return nil, redisfault.Of(err, "read edges of %s", user)
	}
	bonds := make(map[string]bond, len(cmds[0].Val()))
	for i, cmd := range cmds {
		for _, other := range cmd.Val() {
			bonds[other] |= relations[i].bond
		}
	}
	return bonds, nil
}
