package feed

import (
	"context"
	"fmt"
	"slices"

	"github.com/redis/go-redis/v9"

	"activityfeed/internal/event"
	"activityfeed/internal/redisfault"
)

// noCursor is the cursor of a first page: everything is older.
const noCursor event.ID = 0

// fewStreams is up to how many lists are read together with the requests of others.
const fewStreams = 50

// stream is an author's list as far as it was read.
type stream struct {
	author string
	ids    []event.ID // newest first
	batch  int        // how many to read next
	ended  bool       // the list has no more
}

// part is what is known of a list of posts below a cursor.
type part struct {
	ids []event.ID // newest first, each once
	// floor is how far down they are complete; end says that there are no more.
	floor event.ID
	end   bool
}

// newest merges the lists of authors and returns the newest ids below cursor,
// want at most; end says that there are no more. It is what a home feed is by
// definition: the stored list only saves this work.
func (s *redisStore) newest(ctx context.Context, authors []string, cursor event.ID, want int) (ids []event.ID, end bool, err error) {
	return s.merge(ctx, part{end: true}, authors, cursor, want)
}

// merge does so with what a stored list has of other authors. It returns at least
// one id unless there are no more, if known has.
func (s *redisStore) merge(ctx context.Context, known part, authors []string, cursor event.ID, want int) (ids []event.ID, end bool, err error) {
	if len(authors) == 0 {
		return known.ids[:min(want, len(known.ids))], known.end && len(known.ids) <= want, nil
	}
	// Of many authors, each has only a few posts among the newest; who has more
	// is asked again, for twice as many.
	batch := min(want+1, 4+2*want/max(1, len(authors)))
	streams := make([]*stream, len(authors))
	for i, author := range authors {
		streams[i] = &stream{author: author, batch: batch}
	}
	for open := streams; len(open) > 0; {
		if err := s.extend(ctx, open, cursor); err != nil {
			return nil, false, err
		}
		ids = append(ids[:0], known.ids...)
		for _, st := range streams {
			ids = append(ids, st.ids...)
		}
		ids = sortedUnique(ids)
		// A stream matters while what it did not show yet could be among the first.
		last := known.floor
		if len(ids) >= want {
			last = max(last, ids[want-1])
		}
		open = open[:0:0]
		end = known.end && len(ids) <= want
		for _, st := range streams {
			if st.ended {
				continue
			}
			end = false
			if st.ids[len(st.ids)-1] > last {
				open = append(open, st)
			}
		}
	}
	if i := slices.IndexFunc(ids, func(id event.ID) bool { return id < known.floor }); i >= 0 {
		ids = ids[:i]
	}
	return ids[:min(want, len(ids))], end, nil
}

// extend reads the next part of each stream.
func (s *redisStore) extend(ctx context.Context, streams []*stream, cursor event.ID) error {
	cmds := make([]*redis.StringSliceCmd, len(streams))
	for i, st := range streams {
		below := cursor
		if len(st.ids) > 0 {
			below = st.ids[len(st.ids)-1]
		}
		if below == noCursor {
			cmds[i] = redis.NewStringSliceCmd(ctx, "lrange", authorKey(st.author), 0, st.batch-1)
		} else {
			cmds[i] = olderScript.Strings(ctx, []string{authorKey(st.author)}, below.String(), st.batch)
		}
	}
	// Many lists are a pipeline of their own: they would hold up short requests.
	run := s.ask
	if len(cmds) > fewStreams {
		run = func(ctx context.Context, cmds ...redis.Cmder) error { return s.exec(ctx, cmds) }
	}
	for part := range slices.Chunk(cmds, s.cfg.PipelineSize) {
		if err := run(ctx, erased(part)...); err != nil {
			return redisfault.Of(err, "read lists of %d authors", len(streams))
		}
	}
	for i, st := range streams {
		entries := cmds[i].Val()
		for _, entry := range entries {
			id, err := event.ParseID(entry)
			if err != nil {
				return fmt.Errorf("list of author %s: %w", st.author, err)
			}
			st.ids = append(st.ids, id)
		}
		st.ended = len(entries) < st.batch
		st.batch *= 2
	}
	return nil
}

// older returns an author's ids below cursor, want at most.
func (s *redisStore) older(ctx context.Context, author string, cursor event.ID, want int) (ids []event.ID, end bool, err error) {
	return s.newest(ctx, []string{author}, cursor, want)
}

// sortedUnique sorts newest first and drops repeats, in place.
func sortedUnique(ids []event.ID) []event.ID {
	slices.SortFunc(ids, func(a, b event.ID) int {
		switch {
		case a > b:
			return -1
		case a < b:
			return 1
		}
		return 0
	})
	return slices.Compact(ids)
}
