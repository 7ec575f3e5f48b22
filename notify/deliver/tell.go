package deliver

import (
	"context"
	"slices"
	"time"

	"activityfeed/internal/event"
	"activityfeed/notify/device"
	"activityfeed/notify/prefs"
	"activityfeed/notify/schedule"
)

// maxClaims is how many workers may die over a job before it is taken away.
const maxClaims = 5

// told is one tell job: a person and a group.
type told struct {
	leased  schedule.Job
	user    string
	group   group
	rows    []Row
	except  string
	rules   prefs.Rules
	inbox   Inbox
	devices []device.Device
}

// tell makes the pushes of persons and groups whose time has come. A job that
// cannot be done now stays leased and comes again.
func (d *Deliverer) tell(ctx context.Context, jobs []schedule.Job) {
	batch := make([]*told, 0, len(jobs))
	for _, leased := range jobs {
		t := readTell(leased)
		if t == nil || leased.Claims > maxClaims {
			d.deps.Log.Error("a tell job is given up", "claims", leased.Claims)
			d.done(ctx, d.tells, leased)
			continue
		}
		batch = append(batch, t)
	}
	if err := d.look(ctx, batch); err != nil {
		d.deps.Log.Warn("cannot look up whom to tell, trying again later", "jobs", len(batch), "err", err)
		return
	}
	for _, t := range batch {
		if err := d.tellOne(ctx, t); err != nil && ctx.Err() == nil {
			d.deps.Log.Warn("cannot tell by push, trying again later", "user_id", t.user, "err", err)
		}
	}
}

func readTell(leased schedule.Job) *told {
	t := &told{leased: leased}
	for _, item := range leased.Items {
		r, err := decodeRow(item)
		if err != nil {
			return nil
		}
		if r.ID == 0 {
			t.except = r.Actor
			continue
		}
		t.group = groupOf(r)
		t.rows = append(t.rows, r)
	}
	for i, c := range leased.ID {
		if c == '|' {
			t.user = leased.ID[:i]
			break
		}
	}
	if t.user == "" || len(leased.Items) == 0 {
		return nil
	}
	return t
}

// look reads what has to be known of all the persons of a batch.
func (d *Deliverer) look(ctx context.Context, batch []*told) error {
	if len(batch) == 0 {
		return nil
	}
	users := make([]string, len(batch))
	for i, t := range batch {
		users[i] = t.user
	}
	preferences, err := d.deps.Home.Preferences(ctx, users)
	if err != nil {
		return err
	}
	inboxes, err := d.deps.Home.Inboxes(ctx, users)
	if err != nil {
		return err
	}
	devices, err := d.deps.Devices.List(ctx, users...)
	if err != nil {
		return err
	}
	for i, t := range batch {
		t.rules, t.inbox, t.devices = d.rulesOf(preferences[i]), inboxes[i], devices[i]
	}
	return nil
}

func (d *Deliverer) tellOne(ctx context.Context, t *told) error {
	now := d.deps.Now()
	if t.group == (group{}) {
		return d.tellBadge(ctx, t, now)
	}
	rows, reason, err := d.due(ctx, t, now)
	if err != nil {
		return err
	}
	if reason != "" {
		d.metrics.skip(reason)
		return d.tells.Done(ctx, t.leased, now.Add(t.rules.Coalesce(t.group.kind)))
	}
	if until := t.rules.QuietUntil(now); until.After(now) {
		return d.tells.Later(ctx, t.leased, until, encodeRows(rows)...)
	}
	wait, err := d.memory.allow(ctx, t.user, t.rules.PerHour, now)
	if err != nil {
		return err
	}
	if wait > 0 {
		d.metrics.limited.Inc()
		return d.tells.Later(ctx, t.leased, now.Add(wait), encodeRows(rows)...)
	}
	j := job{
		User: t.user, Kind: int32(t.group.kind), Actor: t.group.actor, Post: int64(t.group.post),
		Expires: newest(rows).Time().Add(t.rules.TTL(t.group.kind)).UnixMilli(),
	}
	for _, r := range rows {
		j.Events = append(j.Events, int64(r.ID))
	}
	if err := d.addPushes(ctx, t, j, func(dev device.Device) bool { return !dev.Suspended() }); err != nil {
		return err
	}
	// After the pushes: who dies in between makes the same ones again.
	if err := d.memory.tell(ctx, t.user, rows, t.rules.TTL(t.group.kind)); err != nil {
		return err
	}
	return d.tells.Done(ctx, t.leased, now.Add(t.rules.Coalesce(t.group.kind)))
}

// due returns the rows of which the person is to be told, or why of none.
func (d *Deliverer) due(ctx context.Context, t *told, now time.Time) (rows []Row, reason string, err error) {
	if !t.rules.Push(t.group.kind) {
		return nil, skippedPreference, nil
	}
	if len(t.devices) == 0 {
		return nil, skippedDevice, nil
	}
	seen := map[event.ID]bool{}
	ttl := t.rules.TTL(t.group.kind)
	for _, r := range t.rows {
		if now.Sub(r.ID.Time()) < ttl && !seen[r.ID] {
			rows = append(rows, r)
		}
		seen[r.ID] = true
	}
	if len(rows) == 0 {
		return nil, skippedExpired, nil
	}
	rows = slices.DeleteFunc(rows, func(r Row) bool { return !t.inbox.has(r.ID) })
	if len(rows) == 0 {
		return nil, skippedRead, nil
	}
	rows, err = d.memory.untold(ctx, t.user, rows)
	if err == nil && len(rows) == 0 {
		reason = skippedTold
	}
	return rows, reason, err
}

func (d *Deliverer) tellBadge(ctx context.Context, t *told, now time.Time) error {
	// The same minute is the same push: it says what is unread when it is sent.
	j := job{User: t.user, Expires: now.Add(time.Hour).UnixMilli(), Events: []int64{now.UnixMilli()}}
	err := d.addPushes(ctx, t, j, func(dev device.Device) bool {
		return dev.Silent && dev.ID != t.except && !dev.Suspended()
	})
	if err != nil {
		return err
	}
	return d.tells.Done(ctx, t.leased, now.Add(badgeWindow))
}

// addPushes makes one push job for each device that is to be told.
func (d *Deliverer) addPushes(ctx context.Context, t *told, j job, wanted func(device.Device) bool) error {
	now := d.deps.Now()
	for _, dev := range t.devices {
		l := d.lanes[dev.Target.Provider]
		if l == nil || !wanted(dev) {
			d.metrics.skip(skippedDevice)
			continue
		}
		j.Device = dev.ID
		if err := l.queue.Add(ctx, schedule.Entry{ID: j.id(), Due: now, Item: j.encode()}); err != nil {
			return err
		}
	}
	return nil
}

func (d *Deliverer) done(ctx context.Context, q *schedule.Queue, leased schedule.Job) {
	if err := q.Done(ctx, leased, d.deps.Now()); err != nil && ctx.Err() == nil {
		d.deps.Log.Warn("cannot settle a job, it comes again", "err", err)
	}
}

func (b Inbox) has(id event.ID) bool {
	return slices.ContainsFunc(b.Open, func(r Row) bool { return r.ID == id })
}

func encodeRows(rows []Row) [][]byte {
	items := make([][]byte, len(rows))
	for i, r := range rows {
		items[i] = encodeRow(r)
	}
	return items
}
