package feed

import (
	"context"
	"encoding/binary"
	"slices"

	"github.com/redis/go-redis/v9"

	"activityfeed/internal/fault"
	"activityfeed/internal/redisfault"
)

// scanCount is what every HSCAN asks for. It must not follow the page size: a
// place inside a part means the same only if the part is the same.
const scanCount = 256

// users returns a page of the users on the other side of a relation, in no
// promised order, and the token of the next page, empty at the end. A page may be
// short, and even empty, before the end. Users who are there all the while are
// listed at least once.
//
// A place is the cursor of an HSCAN and, where the part that it gives is larger
// than the page, the last user of that part that was listed; parts are sorted.
func (s *redisStore) users(ctx context.Context, rel relation, user string, size int, token string) ([]string, string, error) {
	list := tokenList{kind: string(rel), user: user}
	place, err := list.open(token)
	if err != nil {
		return nil, "", err
	}
	var cursor uint64
	var after string
	if place != nil {
		if len(place) < 8 {
			return nil, "", fault.Invalid("page_token", "is not one that this server gave")
		}
		cursor, after = binary.BigEndian.Uint64(place), string(place[8:])
	}
	cmd := redis.NewScanCmd(ctx, s.redis.Process, "hscan", rel.key(user), cursor, "count", scanCount)
	if err := s.exec(ctx, []redis.Cmder{cmd}); err != nil {
		return nil, "", redisfault.Of(err, "list %s of %s", rel, user)
	}
	entries, next := cmd.Val()
	var ids []string
	for i := 0; i+1 < len(entries); i += 2 {
		if other := entries[i]; other != generationField && other > after {
			ids = append(ids, other)
		}
	}
	slices.Sort(ids)
	ids = slices.Compact(ids)
	if len(ids) > size {
		ids = ids[:size]
		return ids, list.seal(append(binary.BigEndian.AppendUint64(nil, cursor), ids[size-1]...)), nil
	}
	if next == 0 {
		return ids, "", nil
	}
	return ids, list.seal(binary.BigEndian.AppendUint64(nil, next)), nil
}
