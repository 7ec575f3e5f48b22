package kafka

import (
	"errors"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are the subscriptions' metrics on one registry. Counters live on when a
// subscription ends; gauges are read from the subscriptions that run, summed over
// those of one group and topic.
type metrics struct {
	delivered, nacks, lateAcks, resets, fetchErrors, commitErrors *prometheus.CounterVec

	mu   sync.Mutex
	live map[*subscription]struct{}
}

// series are the metrics of one group and topic.
type series struct {
	all *metrics

	delivered, nacks, lateAcks, resets, fetchErrors, commitErrors prometheus.Counter
}

var _ prometheus.Collector = (*metrics)(nil)

// newMetrics returns the metrics of a registry: those that are there, or new ones.
func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	counter := func(name, help string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: "activityfeed", Subsystem: "kafka", Name: name, Help: help,
		}, []string{"group", "topic"})
	}
	m := &metrics{
		delivered:    counter("delivered_total", "Messages handed out, repeats included."),
		nacks:        counter("nacks_total", "Messages that were refused and come back."),
		lateAcks:     counter("late_acks_total", "Acknowledgements after the partition was given up; they change nothing."),
		resets:       counter("resets_total", "Partitions whose log began anew below what was read."),
		fetchErrors:  counter("fetch_errors_total", "Failed reads from the log."),
		commitErrors: counter("commit_errors_total", "Failed commits; each is tried again."),
		live:         make(map[*subscription]struct{}),
	}
	if reg == nil {
		return m, nil
	}
	err := reg.Register(m)
	if already := (prometheus.AlreadyRegisteredError{}); errors.As(err, &already) {
		if shared, ok := already.ExistingCollector.(*metrics); ok {
			return shared, nil
		}
	}
	return m, err
}

func (m *metrics) counters() []*prometheus.CounterVec {
	return []*prometheus.CounterVec{m.delivered, m.nacks, m.lateAcks, m.resets, m.fetchErrors, m.commitErrors}
}

func (m *metrics) series(group, topic string) *series {
	return &series{
		all:          m,
		delivered:    m.delivered.WithLabelValues(group, topic),
		nacks:        m.nacks.WithLabelValues(group, topic),
		lateAcks:     m.lateAcks.WithLabelValues(group, topic),
		resets:       m.resets.WithLabelValues(group, topic),
		fetchErrors:  m.fetchErrors.WithLabelValues(group, topic),
		commitErrors: m.commitErrors.WithLabelValues(group, topic),
	}
}

// watch makes the gauges include a subscription until the returned function is
// called.
func (s *series) watch(sub *subscription) (stop func()) {
	s.all.mu.Lock()
	defer s.all.mu.Unlock()
	s.all.live[sub] = struct{}{}
	return func() {
		s.all.mu.Lock()
		defer s.all.mu.Unlock()
		delete(s.all.live, sub)
	}
}

// gauge describes one gauge. It is made on each call, since descriptions are
// cheap and package variables are not wanted.
func gauge(name, help string) *prometheus.Desc {
	return prometheus.NewDesc("activityfeed_kafka_"+name, help, []string{"group", "topic"}, nil)
}

func gauges() [5]*prometheus.Desc {
	return [5]*prometheus.Desc{
		gauge("in_flight", "Messages handed out and not settled."),
		gauge("tracked", "Records read and not finished."),
		gauge("oldest_unfinished_seconds", "For how long the oldest unfinished record has been here."),
		gauge("lag", "Records of the own partitions that are written and not finished, as of the last fetch."),
		gauge("paused_partitions", "Partitions that are not read because their head does not finish."),
	}
}

// Describe implements prometheus.Collector.
func (m *metrics) Describe(descs chan<- *prometheus.Desc) {
	for _, c := range m.counters() {
		c.Describe(descs)
	}
	for _, g := range gauges() {
		descs <- g
	}
}

// Collect implements prometheus.Collector.
func (m *metrics) Collect(out chan<- prometheus.Metric) {
	for _, c := range m.counters() {
		c.Collect(out)
	}
	now := time.Now()
	sums := make(map[[2]string]load)
	m.mu.Lock()
	for sub := range m.live {
		labels := [2]string{sub.cfg.Group, sub.topic}
		sum := sums[labels]
		sub.mu.Lock()
		sum.add(sub.window, now)
		sub.mu.Unlock()
		sums[labels] = sum
	}
	m.mu.Unlock()
	descs := gauges()
	for labels, sum := range sums {
		for i, value := range [...]float64{
			float64(sum.inFlight), float64(sum.tracked), sum.oldest.Seconds(), float64(sum.lag), float64(sum.paused),
		} {
			out <- prometheus.MustNewConstMetric(descs[i], prometheus.GaugeValue, value, labels[0], labels[1])
		}
	}
}

// load is what the gauges show.
type load struct {
	inFlight, tracked, paused int
	lag                       int64
	oldest                    time.Duration
}

func (l *load) add(w *window, now time.Time) {
	l.inFlight += w.inFlight
	for _, p := range w.parts {
		l.tracked += p.tracker.unfinished
		if p.paused {
			l.paused++
		}
		if since, ok := p.tracker.oldest(); ok {
			l.oldest = max(l.oldest, now.Sub(since))
		}
		if mark := max(p.tracker.mark.offset, p.committed.offset); mark >= 0 {
			l.lag += max(0, p.end-mark)
		} else if p.tracker.span() > 0 {
			l.lag += max(0, p.end-p.tracker.slots.at(0).offset)
		}
	}
}
