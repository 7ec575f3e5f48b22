package deliver

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"

	"activityfeed/internal/delivery"
	"activityfeed/internal/event"
	"activityfeed/internal/fault"
	"activityfeed/internal/redispipe"
	"activityfeed/notify/device"
	"activityfeed/notify/prefs"
	"activityfeed/notify/push"
	"activityfeed/notify/schedule"
	"activityfeed/notify/template"
	pb "activityfeed/proto/activityfeed/v1"
)

// Inbox is what a push has to know of an inbox.
type Inbox struct {
	// Unread is the count for the badge.
	Unread int
	// Open are the rows that are shown and not read, newest first.
	Open []Row
}

// Home is where deliver asks about people, and leaves what it cannot deliver.
type Home interface {
	// Inboxes returns the inbox of each user, in their order.
	Inboxes(ctx context.Context, users []string) ([]Inbox, error)
	// Preferences returns those of each user, nil where there are none.
	Preferences(ctx context.Context, users []string) ([]*pb.NotificationPreferences, error)
	// DeviceGone writes down that a device was removed because its push service says
	// that it is gone.
	DeviceGone(ctx context.Context, user, device string) error
	// Bury keeps a push that was given up, where an operator finds it.
	Bury(ctx context.Context, l Letter) error
}

// Deps are the outside things that deliver works with.
type Deps struct {
	Log   *slog.Logger
	Redis redis.UniversalClient
	// RedisTimeout bounds one call to Redis. Zero: 3 s.
	RedisTimeout time.Duration
	Devices      *device.Store
	Home         Home
	// Senders are the providers that are configured.
	Senders push.Senders
	// Reports takes what came of each attempt, for analytics; nil: nobody asks.
	Reports *delivery.Reporter
	Metrics prometheus.Registerer
	Now     func() time.Time
}

// Deliverer schedules pushes and sends them.
type Deliverer struct {
	cfg     Config
	deps    Deps
	rules   map[pb.NotificationType]prefs.Defaults
	catalog *template.Catalog
	memory  memory
	tells   *schedule.Queue
	lanes   map[push.Provider]*lane
	metrics *metrics
}

// lane is one provider: its queue, its sender, and what stands in its way.
type lane struct {
	provider push.Provider
	queue    *schedule.Queue
	sender   push.Sender
	gate     *gate
}

// New returns a Deliverer that does nothing yet.
func New(cfg Config, deps Deps) (*Deliverer, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if deps.Log == nil || deps.Redis == nil || deps.Devices == nil || deps.Home == nil || deps.Now == nil {
		return nil, errors.New("deliver: Log, Redis, Devices, Home and Now are required")
	}
	cfg = cfg.WithDefaults()
	if deps.RedisTimeout == 0 {
		deps.RedisTimeout = 3 * time.Second
	}
	d := &Deliverer{
		cfg: cfg, deps: deps, rules: cfg.rules(), lanes: make(map[push.Provider]*lane),
		memory: memory{redispipe.New(deps.Redis, deps.RedisTimeout, rateScript)},
	}
	var err error
	if d.catalog, err = template.New(); err != nil {
		return nil, err
	}
	if d.tells, err = d.queue("tell"); err != nil {
		return nil, err
	}
	for provider, sender := range deps.Senders {
		l := &lane{provider: provider, sender: push.NewJudge(sender, deps.Now), gate: newGate(3*cfg.Workers/4, deps.Now)}
		if l.queue, err = d.queue(string(provider)); err != nil {
			return nil, err
		}
		d.lanes[provider] = l
	}
	d.metrics = newMetrics(deps.Metrics, d.lanes)
	return d, nil
}

func (d *Deliverer) queue(name string) (*schedule.Queue, error) {
	return schedule.New(schedule.Config{
		Name: name, Shards: d.cfg.Shards, Lease: d.cfg.Lease, Poll: d.cfg.Poll, Timeout: d.deps.RedisTimeout,
	}, d.deps.Redis, d.deps.Now)
}

// Run sends what is due until ctx ends; then it waits for what is under way.
func (d *Deliverer) Run(ctx context.Context) {
	var group sync.WaitGroup
	group.Go(func() {
		d.tells.Run(ctx, 4*batch, batch, d.cfg.Grace, d.deps.Log, func(ctx context.Context, jobs []schedule.Job, release func()) {
			group.Go(func() {
				d.tell(ctx, jobs)
				for range jobs {
					release()
				}
			})
		})
	})
	for _, l := range d.lanes {
		group.Go(func() {
			l.queue.Run(ctx, d.cfg.Workers, batch, d.cfg.Grace, d.deps.Log, func(ctx context.Context, jobs []schedule.Job, release func()) {
				group.Go(func() { d.send(ctx, l, jobs, release) })
			})
		})
	}
	group.Wait()
}

// batch is how many jobs are claimed and looked up together.
const batch = 32

// Tell schedules that users are told of a row of their inbox. It may be called again
// with the same: who was told is not told twice.
func (d *Deliverer) Tell(ctx context.Context, r Row, users []string) error {
	if len(users) == 0 || len(d.lanes) == 0 {
		return nil
	}
	preferences, err := d.deps.Home.Preferences(ctx, users)
	if err != nil {
		return err
	}
	item, now := encodeRow(r), d.deps.Now()
	entries := make([]schedule.Entry, 0, len(users))
	for i, user := range users {
		rules := d.rulesOf(preferences[i])
		if !rules.Push(r.Kind) || now.Sub(r.ID.Time()) >= rules.TTL(r.Kind) {
			continue
		}
		entries = append(entries, schedule.Entry{ID: tellID(user, groupOf(r)), Due: now.Add(rules.Coalesce(r.Kind)), Item: item, Join: true})
	}
	return d.tells.Add(ctx, entries...)
}

// badgeWindow puts the marks of somebody who reads along into one silent push.
const badgeWindow = 2 * time.Second

// Badge schedules that a user's devices are told, without a sound, how many are
// unread; except the one on which they were read.
func (d *Deliverer) Badge(ctx context.Context, user, except string) error {
	if len(d.lanes) == 0 {
		return nil
	}
	return d.tells.Add(ctx, schedule.Entry{
		ID: tellID(user, group{}), Due: d.deps.Now().Add(badgeWindow), Item: encodeRow(Row{Actor: except}), Join: true,
	})
}

// Replay schedules a push again that was given up; it has another hour.
func (d *Deliverer) Replay(ctx context.Context, body []byte) error {
	j, err := decodeJob([][]byte{body})
	if err != nil {
		return fault.Poison(event.ReasonUndecodable, err)
	}
	devices, err := d.deps.Devices.Get(ctx, device.Ref{User: j.User, Device: j.Device})
	if err != nil {
		return err
	}
	l := d.lanes[devices[0].Target.Provider]
	if l == nil {
		return nil // the device is gone: nobody to tell
	}
	j.Attempt, j.Reason = 0, ""
	j.Expires = later(j.expires(), d.deps.Now().Add(time.Hour)).UnixMilli()
	return l.queue.Add(ctx, schedule.Entry{ID: j.id(), Due: d.deps.Now(), Item: j.encode()})
}

// Test sends a test push to a device at once and returns what came of it.
func (d *Deliverer) Test(ctx context.Context, dev device.Device) (push.Outcome, error) {
	l := d.lanes[dev.Target.Provider]
	if l == nil {
		return push.Outcome{Action: push.Drop, Reason: push.NoProvider}, nil
	}
	preferences, err := d.deps.Home.Preferences(ctx, []string{dev.User})
	if err != nil {
		return push.Outcome{}, err
	}
	now := d.deps.Now()
	title, body := d.catalog.Test(d.rulesOf(preferences[0]).Locale)
	out := d.attempt(ctx, l, dev, push.Message{
		ID: "test|" + dev.ID + "|" + now.Format(time.RFC3339Nano), Title: title, Body: body, URL: d.cfg.URL,
		CollapseKey: "test", Urgency: push.High, Expires: now.Add(5 * time.Minute), Data: map[string]string{"type": "test"},
	})
	return out, d.record(ctx, dev, out)
}

func (d *Deliverer) rulesOf(p *pb.NotificationPreferences) prefs.Rules {
	return prefs.New(p, d.rules, d.cfg.PerHour)
}

// newest returns the newest event of rows.
func newest(rows []Row) event.ID {
	var id event.ID
	for _, r := range rows {
		id = max(id, r.ID)
	}
	return id
}
