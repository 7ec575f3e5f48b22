package poison

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"activityfeed/internal/event"
	"activityfeed/internal/fault"
	"activityfeed/internal/middleware"
)

// Tail follows a topic from its beginning; *kafka.Tail is one.
type Tail interface {
	// Run calls fn for each record, those of one partition in order, until ctx ends.
	Run(ctx context.Context, fn func(*message.Message) error) error
	// CaughtUp returns when all that was in the topic at the call was given to fn.
	CaughtUp(ctx context.Context) error
}

// Publisher writes to a topic and answers when the log has it; *kafka.Publisher is
// one.
type Publisher interface {
	PublishContext(ctx context.Context, topic string, messages ...*message.Message) error
}

// Config bounds the tool's calls.
type Config struct {
	// ReadTimeout is how long reading a poison topic whole may take. 0 means 1 min.
	ReadTimeout time.Duration
	// PublishTimeout is how long one publish may take. 0 means 10 s.
	PublishTimeout time.Duration
}

// Tool lists, shows, replays and drops letters. Safe for concurrent use, but two
// people who replay the same letter at the same time replay it twice.
type Tool struct {
	cfg  Config
	tail func(topic string) Tail
	pub  Publisher
	log  *slog.Logger
}

// New returns a Tool. tail makes a reader of one topic from its beginning.
func New(cfg Config, tail func(topic string) Tail, pub Publisher, log *slog.Logger) *Tool {
	cfg.ReadTimeout = cmp.Or(cfg.ReadTimeout, time.Minute)
	cfg.PublishTimeout = cmp.Or(cfg.PublishTimeout, 10*time.Second)
	return &Tool{cfg: cfg, tail: tail, pub: pub, log: log}
}

// Entry is one event in a service's poison: the latest generation of its letter.
type Entry struct {
	middleware.Letter

	// generations are all live ones, this one too: a replay or drop that was cut
	// short leaves an earlier one behind.
	generations []middleware.Letter
}

// Type returns the short name of the event's type, "PhotoPosted"; what the record
// says if it is none of ours.
func (e Entry) Type() string {
	return strings.TrimPrefix(e.Original.Metadata.Get("ce_type"), "activityfeed.v1.")
}

// Filter chooses letters. Its conditions must all hold. The zero Filter is
// refused: who wants everything has to say so.
type Filter struct {
	// All chooses every letter that the other conditions leave.
	All bool
	// IDs to choose; none means any.
	IDs []string
	// Reason is the letter's: "undecodable"; empty means any.
	Reason string
	// Type is the event's short name: "PhotoPosted"; empty means any.
	Type string
	// Before chooses letters whose first failure was before; zero means any.
	Before time.Time
}

func (f Filter) empty() bool {
	return !f.All && len(f.IDs) == 0 && f.Reason == "" && f.Type == "" && f.Before.IsZero()
}

func (f Filter) matches(e Entry) bool {
	return (len(f.IDs) == 0 || slices.Contains(f.IDs, e.ID)) &&
		(f.Reason == "" || f.Reason == e.Reason) &&
		(f.Type == "" || f.Type == e.Type()) &&
		(f.Before.IsZero() || e.FirstFailure.Before(f.Before))
}

// List returns the letters of a service, those that failed first at the front.
func (t *Tool) List(ctx context.Context, service string) ([]Entry, error) {
	return t.read(ctx, service)
}

// Show returns one letter; NotFound if there is none of that id.
func (t *Tool) Show(ctx context.Context, service, id string) (Entry, error) {
	entries, _, err := t.choose(ctx, service, Filter{IDs: []string{id}})
	if err != nil {
		return Entry{}, err
	}
	return entries[0], nil
}

// choose returns the letters that a filter chooses, and those that it does not. Ids that
// are not there are an error: whoever names an event wants to hear that it is gone.
func (t *Tool) choose(ctx context.Context, service string, f Filter) (chosen, others []Entry, err error) {
	if f.empty() {
		return nil, nil, fault.Invalid("filter", "give ids, or --reason, --type, --older, or --all")
	}
	entries, err := t.read(ctx, service)
	if err != nil {
		return nil, nil, err
	}
	for _, id := range f.IDs {
		if !slices.ContainsFunc(entries, func(e Entry) bool { return e.ID == id }) {
			return nil, nil, fault.Missing("no event %s among the poison of %s; see 'activityfeed poison list %s'",
				middleware.Clean(id, 256), service, service)
		}
	}
	for _, e := range entries {
		if f.matches(e) {
			chosen = append(chosen, e)
		} else {
			others = append(others, e)
		}
	}
	return chosen, others, nil
}

// read reads the poison topic whole.
func (t *Tool) read(ctx context.Context, service string) ([]Entry, error) {
	topic := event.PoisonTopic(service)
	ctx, cancel := context.WithTimeout(ctx, t.cfg.ReadTimeout)
	defer cancel()
	running, stop := context.WithCancelCause(ctx)
	defer stop(nil)

	live := map[string]middleware.Letter{}
	foreign := 0
	tail := t.tail(topic)
	done := make(chan error, 1)
	go func() {
		err := tail.Run(running, func(msg *message.Message) error {
			l, tombstone, err := middleware.ParseLetter(msg)
			switch {
			case err != nil:
				foreign++
			case tombstone:
				delete(live, l.Key())
			default:
				live[l.Key()] = l
			}
			return nil
		})
		// CaughtUp would wait for a reader that has given up.
		stop(err)
		done <- err
	}()
	caught := tail.CaughtUp(running)
	stop(nil)
	if err := errors.Join(<-done, caught); err != nil {
		return nil, fmt.Errorf("read %s: %w", topic, err)
	}
	if foreign > 0 {
		t.log.Warn("poison topic holds records that are no letters", "topic", topic, "records", foreign)
	}
	return fold(live), nil
}

// fold makes one entry of all generations of an event.
func fold(live map[string]middleware.Letter) []Entry {
	byID := map[string]*Entry{}
	for _, l := range live {
		e := byID[l.ID]
		if e == nil {
			e = &Entry{Letter: l}
			byID[l.ID] = e
		}
		if l.Replays > e.Replays {
			e.Letter = l
		}
		e.generations = append(e.generations, l)
	}
	entries := make([]Entry, 0, len(byID))
	for _, e := range byID {
		entries = append(entries, *e)
	}
	slices.SortFunc(entries, func(a, b Entry) int {
		return cmp.Or(a.FirstFailure.Compare(b.FirstFailure), cmp.Compare(a.ID, b.ID))
	})
	return entries
}
