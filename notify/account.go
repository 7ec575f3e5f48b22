package notify

import (
	"context"
	"errors"
	"strconv"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/redis/go-redis/v9"
	"google.golang.org/protobuf/proto"

	"activityfeed/internal/event"
	"activityfeed/internal/fault"
	"activityfeed/internal/middleware"
	"activityfeed/internal/record"
	"activityfeed/internal/redisfault"
	"activityfeed/notify/deliver"
	"activityfeed/notify/prefs"
	pb "activityfeed/proto/activityfeed/v1"
)

// facts writes what people set for themselves to the topic "account". The zero
// value, in a process without ids or publisher, writes nothing.
type facts struct {
	publisher message.Publisher
	ids       *event.IDs
	now       func() time.Time
	source    string
}

var errNoFacts = errors.New("this process has no ids or no publisher")

// next returns the id of the next fact, 0 if none can be written.
func (f *facts) next() event.ID {
	if f.publisher == nil || f.ids == nil {
		return 0
	}
	return f.ids.Next()
}

// write returns when the log has the fact. No id, no fact.
func (f *facts) write(ctx context.Context, id event.ID, data proto.Message) error {
	if id == 0 {
		return nil
	}
	msg, err := event.Encode(event.Event{ID: id, Time: f.now(), Source: f.source, Data: data})
	if err != nil {
		return err
	}
	msg.SetContext(ctx)
	return publish(ctx, f.publisher, event.AccountTopic, msg)
}

// must is write for what is lost without the log.
func (f *facts) must(ctx context.Context, data proto.Message) (event.ID, error) {
	id := f.next()
	if id == 0 {
		return 0, fault.Outage("settings cannot be changed here", errNoFacts)
	}
	return id, f.write(ctx, id, data)
}

// publish gives the publisher our deadline where it can take one.
func publish(ctx context.Context, pub message.Publisher, topic string, msg *message.Message) error {
	type contextPublisher interface {
		PublishContext(ctx context.Context, topic string, messages ...*message.Message) error
	}
	var err error
	if p, ok := pub.(contextPublisher); ok {
		err = p.PublishContext(ctx, topic, msg)
	} else {
		err = pub.Publish(topic, msg)
	}
	if err != nil && fault.KindOf(err) == fault.Internal && ctx.Err() == nil {
		err = fault.Outage("the log did not accept the change", err)
	}
	return err
}

// account takes what people set into the projection. The process that took the
// command has done so already, as a rule.
func (h *handler) account(ctx context.Context, e event.Event) error {
	switch d := e.Data.(type) {
	case *pb.DeviceRegistered:
		return h.devices.Register(ctx, d, e.ID)
	case *pb.DeviceRemoved:
		_, err := h.devices.Remove(ctx, d.GetUserId(), d.GetDeviceId(), e.ID)
		return err
	case *pb.PreferencesSet:
		return h.store.prefer(ctx, d, e.ID)
	case *pb.InboxMarked:
		return h.restoreMarks(ctx, e.ID, d, false)
	}
	return nil
}

// prefer keeps preferences, unless newer ones are known.
func (s *store) prefer(ctx context.Context, d *pb.PreferencesSet, version event.ID) error {
	stored, err := proto.Marshal(d.GetPreferences())
	if err != nil {
		return err
	}
	var off []byte
	for _, t := range d.GetPreferences().GetTypes() {
		if !prefs.Inbox(d.GetPreferences(), t.GetType()) {
			off = append(off, byte(t.GetType()))
		}
	}
	cmd := preferScript.Int(ctx, []string{personKey(d.GetUserId())}, version.String(), stored, off)
	return redisfault.Of(s.exec(ctx, []redis.Cmder{cmd}), "keep the preferences of %s", d.GetUserId())
}

// preferences returns those of each user, nil where there are none.
func (s *store) preferences(ctx context.Context, users []string) ([]*pb.NotificationPreferences, error) {
	cmds := make([]redis.Cmder, len(users))
	for i, user := range users {
		cmds[i] = redis.NewStringCmd(ctx, "hget", personKey(user), "preferences")
	}
	if err := s.exec(ctx, cmds); err != nil {
		return nil, redisfault.Of(err, "read the preferences of %d users", len(users))
	}
	all := make([]*pb.NotificationPreferences, len(users))
	for i, cmd := range cmds {
		stored := cmd.(*redis.StringCmd).Val() //nolint:forcetypeassert // made above
		p := &pb.NotificationPreferences{}
		if stored != "" && proto.Unmarshal([]byte(stored), p) == nil {
			all[i] = p
		}
	}
	return all, nil
}

// home is what notify/deliver asks about people, and where it leaves letters.
type home struct {
	store  *store
	facts  *facts
	poison *middleware.Poison
}

// Inboxes implements deliver.Home.
func (h *home) Inboxes(ctx context.Context, users []string) ([]deliver.Inbox, error) {
	views, err := h.store.views(ctx, users)
	if err != nil {
		return nil, err
	}
	inboxes := make([]deliver.Inbox, len(views))
	for i, v := range views {
		inboxes[i].Unread = v.unread
		for _, e := range v.entries {
			if !e.hidden && !e.read {
				inboxes[i].Open = append(inboxes[i].Open, deliver.Row{ID: e.id, Kind: e.kind, Actor: e.actor, Post: e.post})
			}
		}
	}
	return inboxes, nil
}

// Preferences implements deliver.Home.
func (h *home) Preferences(ctx context.Context, users []string) ([]*pb.NotificationPreferences, error) {
	return h.store.preferences(ctx, users)
}

// DeviceGone implements deliver.Home.
func (h *home) DeviceGone(ctx context.Context, user, device string) error {
	return h.facts.write(ctx, h.facts.next(), &pb.DeviceRemoved{UserId: user, DeviceId: device})
}

// The letters of pushes in notify.poison: no events of the contract, so they have a
// type of their own. A replay brings them back through notify.retry.
const (
	typeHeader     = "ce_type"
	pushLetterType = "activityfeed.notify.push"
	// reasonExhausted is the reason of letters whose event was tried often enough.
	reasonExhausted = "exhausted"
)

func isPushLetter(msg *message.Message) bool { return msg.Metadata.Get(typeHeader) == pushLetterType }

// Bury implements deliver.Home.
func (h *home) Bury(ctx context.Context, l deliver.Letter) error {
	if h.poison == nil {
		return fault.Outage("keep a push that was given up", errNoFacts)
	}
	msg := message.NewMessage(l.ID.String(), l.Body)
	msg.Metadata = message.Metadata{
		typeHeader: pushLetterType, record.KeyMetadata: l.User, "ce_source": h.facts.source,
		"push_device": l.Device, "push_reason": string(l.Reason), "push_attempts": strconv.Itoa(l.Attempts),
	}
	msg.SetContext(ctx)
	return h.poison.Publish(ctx, msg, reasonExhausted, errors.New("push given up after "+strconv.Itoa(l.Attempts)+" failed attempts: "+string(l.Reason)))
}
