package feed

import (
	"context"
	"crypto/rand"
	"slices"

	"github.com/redis/go-redis/v9"

	"activityfeed/internal/redisfault"
)

// The state of an author begins the generation of their followers, so that it is
// read with every post at no cost. doc.go says why the three are enough.
const (
	// pushed: posts go into the followers' lists. Generations begin with a letter
	// or a digit then.
	pushed = ""
	// turning: posts are still pushed, while the lists learn that they will not be.
	turning = "?"
	// large: posts are not pushed; readers merge the author's list.
	large = "!"
)

func stateOf(generation string) string {
	if generation != "" {
		switch state := generation[:1]; state {
		case turning, large:
			return state
		}
	}
	return pushed
}

// reach decides into how many lists an author's post goes, and moves the author to
// the other state if it is time. size and generation are of the hash of the
// followers, read after the post was in the author's list; those that it returns
// are for the audience: a size of 0 means the author's own feed alone.
//
// Pushing a large author's post is never wrong, so that is what happens whenever
// another process was faster.
func (s *redisStore) reach(ctx context.Context, author string, size int, generation string) (int, string, error) {
	count := max(0, size-1) // the generation is an entry too
	state := stateOf(generation)
	above := count > s.cfg.LargeAuthor || state == large && count >= s.cfg.SmallAuthor
	switch {
	case (s.cfg.LargeAuthor < 0 || !above) && state == pushed:
		return size, generation, nil
	case s.cfg.LargeAuthor < 0 || !above:
		next := pushed + rand.Text()
		turned, err := s.turn(ctx, author, generation, next)
		if err != nil || !turned {
			return size, generation, err
		}
		s.metrics.turns.WithLabelValues("pushed").Inc()
		s.metrics.large.remove(author)
		return size, next, nil
	case state != large:
		if turned, err := s.becomeLarge(ctx, author, generation); err != nil || !turned {
			return size, generation, err
		}
		s.metrics.turns.WithLabelValues("merged").Inc()
	}
	s.metrics.large.add(author)
	s.metrics.largePosts.Inc()
	return 0, generation, nil
}

// becomeLarge ends the pushing of an author's posts: it announces it, marks the
// lists of all followers, and only then says so. It returns false if the followers
// changed meanwhile, which the next post makes good.
func (s *redisStore) becomeLarge(ctx context.Context, author, generation string) (bool, error) {
	// The name is new each time: a process that hung in here cannot end what
	// another one began.
	announced := turning + rand.Text()
	turned, err := s.turn(ctx, author, generation, announced)
	if err != nil || !turned {
		return false, err
	}
	for cursor := uint64(0); ; {
		scan := redis.NewScanCmd(ctx, s.redis.Process, "hscan", followers.key(author), cursor, "count", s.cfg.PipelineSize)
		if err := s.writes.do(ctx, scan); err != nil {
			return false, redisfault.Of(err, "scan followers of %s", author)
		}
		var entries []string
		entries, cursor = scan.Val()
		marks := make([]redis.Cmder, 0, len(entries)/2)
		for i := 0; i < len(entries); i += 2 {
			if user := entries[i]; user != generationField {
				marks = append(marks, markScript.Int(ctx, []string{feedKey(user), pulledKey(user), editionKey(user)}, author, rand.Text()))
			}
		}
		if err := s.writes.do(ctx, marks...); err != nil {
			return false, redisfault.Of(err, "mark %d feeds that follow %s", len(marks), author)
		}
		if cursor == 0 {
			return s.turn(ctx, author, announced, large+rand.Text())
		}
	}
}

// turn puts a new generation, and with it a state, in the place of one that was
// read. It returns false if that one is not there any more.
func (s *redisStore) turn(ctx context.Context, author, from, to string) (bool, error) {
	cmd := turnScript.Int(ctx, []string{followers.key(author)}, from, to)
	if err := s.writes.do(ctx, cmd); err != nil {
		return false, redisfault.Of(err, "turn the posts of %s", author)
	}
	return cmd.Val() == 1, nil
}

// states returns the state of each author.
func (s *redisStore) states(ctx context.Context, authors []string) ([]string, error) {
	cmds := make([]*redis.StringCmd, len(authors))
	for i, author := range authors {
		cmds[i] = redis.NewStringCmd(ctx, "hget", followers.key(author), generationField)
	}
	for part := range slices.Chunk(cmds, s.cfg.PipelineSize) {
		if err := s.exec(ctx, erased(part)); err != nil {
			return nil, redisfault.Of(err, "read the states of %d authors", len(authors))
		}
	}
	states := make([]string, len(authors))
	for i, cmd := range cmds {
		states[i] = stateOf(cmd.Val())
	}
	return states, nil
}

// split parts the followees of a user whose feed is being built into those whose
// posts are pushed into it and those whose are not, or soon will not be.
func (s *redisStore) split(ctx context.Context, followees []string) (pushing, pulled []string, err error) {
	states, err := s.states(ctx, followees)
	if err != nil {
		return nil, nil, err
	}
	for i, author := range followees {
		if states[i] == pushed {
			pushing = append(pushing, author)
		} else {
			pulled = append(pulled, author)
		}
	}
	return pushing, pulled, nil
}

// outgrown says whether one of the authors that a list has marked is pushed again,
// so that a new list would cost its readers less.
func (s *redisStore) outgrown(ctx context.Context, marked []string) bool {
	states, err := s.states(ctx, marked)
	return err == nil && slices.Contains(states, pushed)
}
