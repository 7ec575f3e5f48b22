package audit

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"activityfeed/internal/load/longrun"
)

// Metrics show the last audit to Prometheus.
type Metrics struct {
	drift   *prometheus.GaugeVec
	users   prometheus.Gauge
	seconds prometheus.Gauge
	last    prometheus.Gauge
	failed  prometheus.Counter
}

// NewMetrics registers the collectors.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	gauge := func(name, help string) prometheus.Gauge {
		return prometheus.NewGauge(prometheus.GaugeOpts{Name: name, Help: help})
	}
	m := &Metrics{
		drift: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "activityfeed_feed_drift",
			Help: "Differences between home feeds and their definition in the last audit, after its repair if it made one, by kind.",
		}, []string{"kind"}),
		users:   gauge("activityfeed_audit_users", "Users whose feeds the last audit read."),
		seconds: gauge("activityfeed_audit_seconds", "How long the last audit took."),
		last:    gauge("activityfeed_audit_last_timestamp_seconds", "When the last audit that could be done ended."),
		failed:  prometheus.NewCounter(prometheus.CounterOpts{Name: "activityfeed_audit_failures_total", Help: "Audits that could not be done."}),
	}
	reg.MustRegister(m.drift, m.users, m.seconds, m.last, m.failed)
	return m
}

func (m *Metrics) set(r Report, at time.Time) {
	differences := r.Differences
	if r.Repair != nil {
		differences = r.Repair.Left
	}
	for _, kind := range Kinds() {
		m.drift.WithLabelValues(string(kind)).Set(float64(differences[kind]))
	}
	m.users.Set(float64(r.Users))
	m.seconds.Set(r.Elapsed.Seconds())
	m.last.Set(float64(at.UnixMilli()) / 1000)
}

// Watch audits again and again until ctx ends: every is the time from the end of an
// audit to the next one. The log is replayed once and then followed, so a sample of
// users costs little more than reading their feeds; each audit draws others. What it
// finds goes to metrics, to Deps.Log and to Deps.Drift; an audit that cannot be done
// is logged, counted and tried again.
func Watch(ctx context.Context, cfg Config, deps Deps, every time.Duration, metrics *Metrics) error {
	a, err := newAuditor(cfg, deps, io.Discard)
	if err != nil {
		return fmt.Errorf("audit: %w", err)
	}
	return a.following(ctx, func(ctx context.Context) error {
		for {
			err := a.round(ctx)
			switch {
			case ctx.Err() != nil:
				return nil //nolint:nilerr // the end of ctx is how this ends, and what err tells
			case err != nil:
				metrics.failed.Inc()
				deps.Log.Error("audit could not be done", "err", err)
			default:
				metrics.set(a.report, time.Now())
				a.tell()
			}
			if longrun.Sleep(ctx, every) != nil {
				return nil //nolint:nilerr // as above
			}
			a.cfg.Seed++
		}
	})
}

// tell logs what a round has found.
func (a *auditor) tell() {
	r := a.report
	if r.Clean() && len(r.Differences) == 0 {
		a.deps.Log.Info("audit found no drift", "users", r.Users, "posts", r.Posts, "elapsed", r.Elapsed)
		return
	}
	a.deps.Log.Warn("audit found drift", "users", r.Users, "differences", r.Differences, "repaired", r.Repair != nil && r.Repair.Left == nil)
	for _, d := range r.Examples {
		a.deps.Log.Warn("feed differs from the log", "user_id", d.User, "kind", d.Kind, "post_id", d.PostID, "author_id", d.AuthorID, "reason", d.Reason)
	}
}
