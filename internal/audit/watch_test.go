package audit

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"

	"activityfeed/internal/testenv"
	pb "activityfeed/proto/activityfeed/v1"
)

// direct calls a fake feed without a wire between, as time in a bubble stands still
// while the wire is waited for.
type direct struct {
	pb.FeedServiceClient

	feed *fakeFeed
}

func (d direct) GetHomeFeed(ctx context.Context, req *pb.GetHomeFeedRequest, _ ...grpc.CallOption) (*pb.GetHomeFeedResponse, error) {
	return d.feed.GetHomeFeed(ctx, req)
}

// gauges returns the metrics of an auditor, without those that tell the time.
func gauges(t *testing.T, reg *prometheus.Registry) map[string]float64 {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	values := map[string]float64{}
	for _, family := range families {
		for _, m := range family.GetMetric() {
			name := []string{family.GetName()}
			for _, label := range m.GetLabel() {
				name = append(name, label.GetValue())
			}
			if value := m.GetGauge().GetValue() + m.GetCounter().GetValue(); value != 0 {
				values[strings.Join(name, " ")] = value
			}
		}
	}
	delete(values, "activityfeed_audit_seconds")
	return values
}

// An auditor that stays shows what the last audit has found, after its repair, and
// keeps that while audits cannot be done.
func TestWatchShowsTheLastAudit(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const every = time.Hour
		log := newFakeLog(t, scene()...)
		f := &fakeFeed{log: log, t: t, homes: map[string][]*pb.Photo{}}
		var mu sync.Mutex
		var wrong, away, repairs bool
		now := func(change func()) {
			mu.Lock()
			defer mu.Unlock()
			change()
		}
		f.tamper = func(_ context.Context, user string, home []*pb.Photo) []*pb.Photo {
			mu.Lock()
			defer mu.Unlock()
			if wrong && user == "bob" {
				return home[1:]
			}
			return home
		}
		deps := Deps{
			Log: testenv.Logger(t), Tail: log, Feed: direct{feed: f},
			Lag: lagFunc(func(context.Context, string, string) (int64, error) {
				mu.Lock()
				defer mu.Unlock()
				if away {
					return 0, errors.New("no broker")
				}
				return 0, nil
			}),
			Repair: func(context.Context, []string) error {
				now(func() { wrong = wrong && !repairs })
				return nil
			},
		}
		reg := prometheus.NewRegistry()
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		start := time.Now()
		go func() {
			ended <- Watch(ctx, Config{CallTimeout: time.Second, Patience: time.Minute}, deps, every, NewMetrics(reg))
		}()
		const users, last, drift, failures = "activityfeed_audit_users", "activityfeed_audit_last_timestamp_seconds", "activityfeed_feed_drift missing", "activityfeed_audit_failures_total"
		var ended1 float64 // when the last audit ended
		for _, step := range []struct {
			name   string
			change func()
			want   map[string]float64
			done   bool // whether an audit was done
		}{
			{"all is well", func() {}, map[string]float64{users: 3}, true},
			{"a feed drifts, and the repair is in vain", func() { wrong = true }, map[string]float64{users: 3, drift: 1}, true},
			{"the log is away", func() { away = true }, map[string]float64{users: 3, drift: 1, failures: 1}, false},
			{"it is back, and a repair works", func() { away, repairs = false, true }, map[string]float64{users: 3, failures: 1}, true},
			{"somebody posts", func() {}, map[string]float64{users: 4, failures: 1}, true},
		} {
			now(step.change)
			if step.name == "somebody posts" {
				log.add(posted("fay", 9), "")
			}
			time.Sleep(every / 2) // the audit is done
			synctest.Wait()
			got := gauges(t, reg)
			if step.done == (got[last] == ended1) || got[last] > float64(time.Now().Unix()) || got[last] < float64(start.Unix()) {
				t.Errorf("%s: the last audit was at %v, the one before at %v", step.name, got[last], ended1)
			}
			ended1 = got[last]
			delete(got, last)
			if diff := cmp.Diff(step.want, got); diff != "" {
				t.Errorf("%s (-want +got):\n%s", step.name, diff)
			}
			time.Sleep(every / 2)
		}
		stop()
		if err := <-ended; err != nil {
			t.Errorf("Watch() = %v", err)
		}
	})
}
