package post

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"google.golang.org/protobuf/proto"

	"activityfeed/internal/event"
	"activityfeed/internal/fault"
	pb "activityfeed/proto/activityfeed/v1"
)

// once publishes the photo of a command with an idempotency key unless the log has
// it already, and returns its post id. The package comment says what holds.
func (p *Post) once(ctx context.Context, req *pb.PostPhotoRequest) (event.ID, error) {
	key := keyOf(req.GetUserId(), req.GetIdempotencyKey())
	content, err := contentOf(photoOf(0, req))
	if err != nil {
		return 0, err
	}
	unlock, err := p.keys.lock(ctx, key)
	if err != nil {
		return 0, fmt.Errorf("wait for another command of the same key: %w", err)
	}
	defer unlock()
	if err := p.caughtUp(ctx); err != nil {
		return 0, fault.Outage("the idempotency key could not be looked up", err)
	}

	a, known := p.index.get(key, p.deps.Now())
	if known && a.content == content {
		p.repeats.WithLabelValues("repeat").Inc()
		return a.post, nil
	}
	if !known {
		a, known = p.attempts.get(key, p.deps.Now())
	}
	if known && a.content != content {
		p.repeats.WithLabelValues("conflict").Inc()
		return 0, fault.Invalid("idempotency_key", "was used for another photo in the last %s", inWords(p.cfg.IdempotencyWindow))
	}
	if !known {
		a = p.newAttempt()
		a.content = content
	}
	if err := p.publishPhoto(ctx, a, req); err != nil {
		if fault.KindOf(err) == fault.Unavailable {
			p.attempts.put(key, a, p.deps.Now())
		}
		return 0, err
	}
	p.attempts.drop(key)
	p.repeats.WithLabelValues("new").Inc()
	return a.post, nil
}

// attempt is a command on its way: the ids that it has, or would have, in the log.
type attempt struct {
	post, event event.ID
	content     contentHash
}

func (p *Post) newAttempt() attempt {
	return attempt{post: p.deps.IDs.Next(), event: p.deps.IDs.Next()}
}

// caughtUp returns when the index has everything that is in the log now.
func (p *Post) caughtUp(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, p.cfg.LookupTimeout)
	defer cancel()
	answer := make(chan error, 1)
	select {
	case p.lookups <- answer:
	case <-p.stopped:
		return errStopped
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case err := <-answer:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

var errStopped = errors.New("the log is not followed any more")

// answerLookups asks the tail once for all who wait: under load its cost is that of
// one question at a time, not of one for each command. Who comes while a question
// is out waits for the next one, since the log may have grown in between.
func (p *Post) answerLookups(ctx context.Context) {
	defer close(p.stopped)
	for {
		var waiting []chan<- error
		select {
		case <-ctx.Done():
			return
		case w := <-p.lookups:
			waiting = append(waiting, w)
		}
		for more := true; more; {
			select {
			case w := <-p.lookups:
				waiting = append(waiting, w)
			default:
				more = false
			}
		}
		lookup, cancel := context.WithTimeout(ctx, p.cfg.LookupTimeout)
		err := p.deps.Tail.CaughtUp(lookup)
		cancel()
		for _, w := range waiting {
			w <- err
		}
	}
}

// remember puts a fact with an idempotency key into the index. It never fails: a
// record that says nothing here is not ours to report.
func (p *Post) remember(msg *message.Message) error {
	if key, a, ok := keyedPhoto(msg); ok {
		p.index.add(key, a, p.deps.Now())
	}
	return nil
}

// keyedPhoto reads a photo that was posted with an idempotency key. It looks at the
// header first: most of the log has none, and need not be decoded.
func keyedPhoto(msg *message.Message) (key keyHash, a attempt, ok bool) {
	idempotencyKey := event.IdempotencyKeyOf(msg)
	if idempotencyKey == "" {
		return key, a, false
	}
	e, err := event.Decode(msg)
	if err != nil {
		return key, a, false
	}
	posted, isPhoto := e.Data.(*pb.PhotoPosted)
	if !isPhoto {
		return key, a, false
	}
	photo := posted.GetPhoto()
	post, idErr := event.ParseID(photo.GetPostId())
	content, contentErr := contentOf(photo)
	if idErr != nil || contentErr != nil {
		return key, a, false
	}
	return keyOf(photo.GetAuthorId(), idempotencyKey), attempt{post: post, event: e.ID, content: content}, true
}

// keyHash stands for a user's idempotency key, contentHash for what a photo shows.
// 128 bits: no two of the keys of a day meet by accident, and a user can only
// collide with themself.
type (
	keyHash     [16]byte
	contentHash [16]byte
)

func keyOf(user, idempotencyKey string) keyHash {
	b := binary.AppendUvarint(nil, uint64(len(user)))
	sum := sha256.Sum256(append(append(b, user...), idempotencyKey...))
	return keyHash(sum[:16])
}

// contentOf hashes what the author chose: not the id, not the time.
func contentOf(photo *pb.Photo) (contentHash, error) {
	chosen := &pb.Photo{Media: photo.GetMedia(), Caption: photo.GetCaption(), Mentions: photo.GetMentions()}
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(chosen)
	if err != nil {
		return contentHash{}, fmt.Errorf("hash photo: %w", err)
	}
	sum := sha256.Sum256(b)
	return contentHash(sum[:16]), nil
}

// keyLocks lets one command of a key at a time pass. The zero value is ready.
type keyLocks struct {
	mu    sync.Mutex
	locks map[keyHash]*keyLock
}

type keyLock struct {
	// held has room for the one who passes.
	held chan struct{}
	// users pass or wait; the last one takes the lock out of the map.
	users int
}

// lock waits for the key, or for the end of ctx.
func (l *keyLocks) lock(ctx context.Context, key keyHash) (unlock func(), err error) {
	l.mu.Lock()
	k, ok := l.locks[key]
	if !ok {
		k = &keyLock{held: make(chan struct{}, 1)}
		if l.locks == nil {
			l.locks = make(map[keyHash]*keyLock)
		}
		l.locks[key] = k
	}
	k.users++
	l.mu.Unlock()

	leave := func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if k.users--; k.users == 0 {
			delete(l.locks, key)
		}
	}
	select {
	case k.held <- struct{}{}:
		return func() { <-k.held; leave() }, nil
	case <-ctx.Done():
		leave()
		return nil, ctx.Err()
	}
}

// inWords says a duration without the parts that are zero: "24h", not "24h0m0s".
func inWords(d time.Duration) string {
	text := d.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}
