package deliver

import (
	"context"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"activityfeed/internal/delivery"
	"activityfeed/internal/event"
	"activityfeed/notify/device"
	"activityfeed/notify/prefs"
	"activityfeed/notify/push"
	"activityfeed/notify/schedule"
	"activityfeed/notify/template"
	pb "activityfeed/proto/activityfeed/v1"
)

const (
	// maxBackoff is the longest back-off of ours; a Retry-After may be longer.
	maxBackoff = 10 * time.Minute
	// groupAge is how far back a push counts the unread rows of its group.
	groupAge = 24 * time.Hour
)

// sending is one push job in the hands of a worker.
type sending struct {
	job

	leased schedule.Job
	device device.Device
	inbox  Inbox
	rules  prefs.Rules
	// found is what was found in place of a lease.
	found string
}

// send does push jobs of one provider. A job that cannot be done now, because Redis
// is away, stays leased and comes again.
func (d *Deliverer) send(ctx context.Context, l *lane, jobs []schedule.Job, release func()) {
	batch := make([]*sending, 0, len(jobs))
	for _, leased := range jobs {
		j, err := decodeJob(leased.Items)
		if err != nil {
			d.deps.Log.Error("a push job is given up: it cannot be read", "provider", string(l.provider))
			d.done(ctx, l.queue, leased)
			release()
			continue
		}
		batch = append(batch, &sending{job: j, leased: leased})
	}
	if err := d.lookUp(ctx, batch); err != nil {
		if ctx.Err() == nil {
			d.deps.Log.Warn("cannot look up pushes, trying again later", "jobs", len(batch), "err", err)
		}
		for range batch {
			release()
		}
		return
	}
	var group sync.WaitGroup
	for _, s := range batch {
		group.Go(func() {
			defer release()
			if err := d.sendOne(ctx, l, s); err != nil && ctx.Err() == nil {
				d.deps.Log.Warn("a push comes again", "user_id", s.User, "device_id", s.Device, "attempt", s.Attempt, "err", err)
			}
		})
	}
	group.Wait()
}

func (d *Deliverer) lookUp(ctx context.Context, batch []*sending) error {
	if len(batch) == 0 {
		return nil
	}
	refs, users := make([]device.Ref, len(batch)), make([]string, len(batch))
	for i, s := range batch {
		refs[i], users[i] = device.Ref{User: s.User, Device: s.Device}, s.User
	}
	devices, err := d.deps.Devices.Get(ctx, refs...)
	if err != nil {
		return err
	}
	preferences, err := d.deps.Home.Preferences(ctx, users)
	if err != nil {
		return err
	}
	// The inboxes last: a mark that was made by now is seen.
	inboxes, err := d.deps.Home.Inboxes(ctx, users)
	if err != nil {
		return err
	}
	for i, s := range batch {
		s.device, s.inbox, s.rules = devices[i], inboxes[i], d.rulesOf(preferences[i])
	}
	return d.memory.begin(ctx, batch, d.cfg.Lease)
}

func (d *Deliverer) sendOne(ctx context.Context, l *lane, s *sending) error {
	now := d.deps.Now()
	switch s.found {
	case sent:
		d.metrics.skip(skippedRepeat)
		return l.queue.Done(ctx, s.leased, now)
	case leased:
		// Its lease is about to run out, or another one's job of the same push is.
		return l.queue.Later(ctx, s.leased, now.Add(spread(d.cfg.Lease/10)), s.encode())
	}
	if s.leased.Claims > maxClaims {
		return d.giveUp(ctx, l, s, push.Outcome{Reason: push.Timeout})
	}
	if reason := d.unwanted(s, now); reason != "" {
		d.metrics.skip(reason)
		return d.settle(ctx, l, s)
	}
	if wait := l.gate.enter(ctx, s.device.Target); wait > 0 {
		return d.again(ctx, l, s, now.Add(wait))
	}
	out := d.attempt(ctx, l, s.device, d.message(s, now))
	if l.gate.leave(s.device.Target, out) {
		d.deps.Log.Error("pushes are paused: the push service refuses us",
			"scope", s.device.Target.ScopeKey(out.Scope), "reason", string(out.Reason), "status", out.Status, "code", out.Code, "pause", out.RetryAfter)
	}
	d.report(l, s, out)
	return d.act(ctx, l, s, out)
}

// report tells analytics what came of an attempt. A badge is about no event.
func (d *Deliverer) report(l *lane, s *sending, out push.Outcome) {
	if d.deps.Reports == nil || s.badge() {
		return
	}
	var id event.ID
	for _, e := range s.Events {
		id = max(id, event.ID(e))
	}
	d.deps.Reports.Report(delivery.Push(&pb.PushOutcome{
		EventId: id.String(), UserId: s.User, DeviceId: s.Device, Provider: string(l.provider),
		Reason: string(out.Reason), Action: out.Action.String(), Attempt: uint32(s.Attempt + 1), AcceptTime: timestamppb.New(id.Time()),
	}, d.deps.Now()))
}

// unwanted says why a push is not sent any more, empty if it is.
func (d *Deliverer) unwanted(s *sending, now time.Time) string {
	switch {
	case s.device.ID == "" || s.device.Suspended():
		return skippedDevice
	case d.stale(s.device, now):
		return skippedStale
	case !now.Before(s.expires()):
		return skippedExpired
	case s.badge():
		return ""
	case !s.rules.Push(s.group().kind):
		return skippedPreference
	case !slices.ContainsFunc(s.Events, func(e int64) bool { return s.inbox.has(event.ID(e)) }):
		return skippedRead
	}
	return ""
}

// stale says that a device of FCM was not registered for so long that there is
// probably nobody behind it. Other push services tell when a device is gone.
func (d *Deliverer) stale(dev device.Device, now time.Time) bool {
	return dev.Target.Provider == push.FCM && d.cfg.StaleAfter > 0 && now.Sub(dev.Target.Registered) > d.cfg.StaleAfter
}

// attempt sends a message, within its time.
func (d *Deliverer) attempt(ctx context.Context, l *lane, dev device.Device, m push.Message) push.Outcome {
	ctx, cancel := context.WithTimeout(ctx, d.cfg.Timeout)
	defer cancel()
	begin := d.deps.Now()
	out := l.sender.Send(ctx, dev.Target, m)
	d.metrics.outcome(l.provider, out, d.deps.Now().Sub(begin))
	return out
}

// message words a push as the inbox is now.
func (d *Deliverer) message(s *sending, now time.Time) push.Message {
	m := push.Message{ID: s.leased.ID, CollapseKey: s.group().key(), Badge: s.inbox.Unread, Expires: s.expires(), Urgency: push.Normal}
	if s.badge() {
		m.Silent, m.Urgency = true, push.Low
		m.Data = map[string]string{"type": "badge"}
		return m
	}
	subject := template.Subject{Kind: s.group().kind, Actor: s.Actor, Unread: s.inbox.Unread}
	actors := map[string]bool{}
	var first Row
	for _, r := range s.inbox.Open { // newest first
		if groupOf(r) != s.group() || (now.Sub(r.ID.Time()) >= groupAge && !slices.Contains(s.Events, int64(r.ID))) {
			continue
		}
		if subject.Events == 0 {
			first, subject.Actor = r, r.Actor
		}
		subject.Events++
		actors[r.Actor] = true
	}
	subject.Actors = len(actors)
	m.Title, m.Body = d.catalog.Text(s.rules.Locale, subject)
	m.Data = map[string]string{
		"type": strings.ToLower(strings.TrimPrefix(first.Kind.String(), "NOTIFICATION_TYPE_")), "actor_id": first.Actor,
		"notification_id": first.ID.String(),
	}
	if first.Post != 0 {
		m.Data["post_id"] = first.Post.String()
		m.URL = d.cfg.URL + "?post=" + first.Post.String()
	} else {
		m.URL = d.cfg.URL + "?user=" + first.Actor
	}
	if first.Kind == pb.NotificationType_NOTIFICATION_TYPE_MENTION {
		m.Urgency = push.High // said to this person alone
	}
	return m
}

// act does what an outcome asks for.
func (d *Deliverer) act(ctx context.Context, l *lane, s *sending, out push.Outcome) error {
	now := d.deps.Now()
	if out.Reason == push.Canceled {
		return d.again(context.WithoutCancel(ctx), l, s, now)
	}
	if err := d.record(ctx, s.device, out); err != nil {
		return err
	}
	switch {
	case out.Done():
		return d.settle(ctx, l, s)
	case out.Action == push.Pause:
		due := now.Add(spread(max(out.RetryAfter, time.Second)))
		s.Reason = string(out.Reason)
		if !due.Before(s.expires()) {
			return d.giveUp(ctx, l, s, out)
		}
		return d.again(ctx, l, s, due)
	}
	s.Attempt++
	s.Reason = string(out.Reason)
	due := now.Add(max(out.RetryAfter, backoff(s.Attempt)))
	if !due.Before(s.expires()) {
		return d.giveUp(ctx, l, s, out)
	}
	return d.again(ctx, l, s, due)
}

// record keeps what came of a push with its device, and removes a device that is
// gone.
func (d *Deliverer) record(ctx context.Context, dev device.Device, out push.Outcome) error {
	if out.Action != push.Prune {
		strikes, err := d.deps.Devices.Record(ctx, device.Ref{User: dev.User, Device: dev.ID}, out, d.deps.Now())
		if err == nil && out.Strike && strikes >= 3 {
			d.deps.Log.Info("a device is left alone until it registers again", "user_id", dev.User, "device_id", dev.ID, "reason", string(out.Reason))
		}
		return err
	}
	removed, err := d.deps.Devices.Remove(ctx, dev.User, dev.ID, dev.Version)
	if err != nil || !removed {
		return err // registered again meanwhile: it stays
	}
	return d.deps.Home.DeviceGone(ctx, dev.User, dev.ID)
}

// settle ends a push for good.
func (d *Deliverer) settle(ctx context.Context, l *lane, s *sending) error {
	if err := d.memory.finish(ctx, s); err != nil {
		return err
	}
	return l.queue.Done(ctx, s.leased, d.deps.Now())
}

// again gives a push back until it is due.
func (d *Deliverer) again(ctx context.Context, l *lane, s *sending, due time.Time) error {
	if err := d.memory.free(ctx, s); err != nil {
		return err
	}
	return l.queue.Later(ctx, s.leased, due, s.encode())
}

// giveUp buries a push. A rate limit is no fault that an operator can mend, and a
// badge is corrected by the next one.
func (d *Deliverer) giveUp(ctx context.Context, l *lane, s *sending, out push.Outcome) error {
	d.metrics.skip(skippedExhausted)
	if out.Reason != push.RateLimited && !s.badge() {
		var id event.ID
		for _, e := range s.Events {
			id = max(id, event.ID(e))
		}
		letter := Letter{ID: id.Tagged(s.Device), User: s.User, Device: s.Device, Reason: out.Reason, Attempts: s.Attempt, Body: s.encode()}
		if err := d.deps.Home.Bury(ctx, letter); err != nil {
			return err
		}
	}
	// It was not sent: a replay makes the same push.
	if err := d.memory.free(ctx, s); err != nil {
		return err
	}
	return l.queue.Done(ctx, s.leased, d.deps.Now())
}

// backoff doubles from a second, with full jitter.
func backoff(attempt int) time.Duration {
	longest := maxBackoff
	if attempt < 10 {
		longest = time.Second << attempt
	}
	return rand.N(longest) + 100*time.Millisecond
}
