package notify

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"flag"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"activityfeed/internal/event"
	"activityfeed/internal/kafka"
	"activityfeed/internal/testenv"
	"activityfeed/internal/testenv/pushservice"
	"activityfeed/notify/deliver"
	"activityfeed/notify/push"
	"activityfeed/notify/push/webpush"
	pb "activityfeed/proto/activityfeed/v1"
)

var pushesFlag = flag.Int("pushes", 3000, "pushes of TestKilledPushesArrive")

// notifierEnv makes the test binary be a process of the role notify, which a test
// kills; its value is a notifier as JSON.
const notifierEnv = "ACTIVITYFEED_TEST_NOTIFIER"

// notifier is what such a process works with.
type notifier struct {
	Brokers []string
	Redis   string
	Service string
	CA, Key string
}

func (n notifier) deps(log *slog.Logger) (Deps, error) {
	der, err := os.ReadFile(n.CA)
	if err != nil {
		return Deps{}, err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(der)
	sender, err := webpush.New(webpush.Config{
		Subject: "mailto:ops@example.com", KeyFile: n.Key, PrivateOrigins: []string{n.Service},
	}, webpush.Deps{Log: log, RootCAs: roots})
	if err != nil {
		return Deps{}, err
	}
	publisher, err := kafka.NewPublisher(kafka.PublisherConfig{Brokers: n.Brokers}, log)
	if err != nil {
		return Deps{}, err
	}
	ids, err := event.NewIDs(os.Getpid()%1000, time.Now)
	if err != nil {
		return Deps{}, err
	}
	return Deps{
		Log: log, Redis: redis.NewClient(&redis.Options{Addr: n.Redis, ContextTimeoutEnabled: true, PoolSize: 50}),
		Publisher: publisher, Facts: publisher, IDs: ids, Source: "test", Senders: push.Senders{push.WebPush: sender},
	}, nil
}

// config is made for the kill: short leases, no limit for a person.
func (n notifier) config() Config {
	return Config{Push: deliver.Config{
		PerHour: 1_000_000, Lease: 5 * time.Second, Timeout: 4 * time.Second, Poll: 50 * time.Millisecond, Workers: 64,
	}}
}

// runNotifier works until it is killed.
func runNotifier(text string) error {
	var n notifier
	if err := json.Unmarshal([]byte(text), &n); err != nil {
		return err
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError}))
	deps, err := n.deps(log)
	if err != nil {
		return err
	}
	for _, group := range []string{"notify", "notify.retry", "notify.account"} {
		s, err := kafka.NewSubscriber(kafka.SubscriberConfig{
			Brokers: n.Brokers, Group: group, Heartbeat: 100 * time.Millisecond, Session: 2 * time.Second, Rebalance: 5 * time.Second,
		}, log, nil)
		if err != nil {
			return err
		}
		switch group {
		case "notify":
			deps.Subscriber = s
		case "notify.retry":
			deps.RetrySubscriber = s
		default:
			deps.AccountSubscriber = s
		}
	}
	all, err := New(n.config(), deps)
	if err != nil {
		return err
	}
	return all.Run(context.Background())
}

// arrivals counts what the push service took, by device and post.
type arrivals struct {
	mu sync.Mutex
	// keys are the collapse keys, by device and post.
	keys    map[string]string
	repeats int
	strange []string
}

func (a *arrivals) take(p pushservice.Push) *pushservice.Reply {
	var shown struct {
		Data map[string]string
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if err := json.Unmarshal(p.Body, &shown); err != nil || shown.Data["post_id"] == "" {
		a.strange = append(a.strange, string(p.Body))
		return nil
	}
	what := p.Device + " " + shown.Data["post_id"]
	key, repeated := a.keys[what]
	if repeated {
		a.repeats++
		if key != p.Key {
			a.strange = append(a.strange, fmt.Sprintf("%s came with the keys %s and %s", what, key, p.Key))
		}
	}
	a.keys[what] = p.Key
	return nil
}

func (a *arrivals) count() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.keys)
}

// The provider goes down and comes back, and the process is killed, in the middle:
// every device has each notification at least once, and what came twice carries the
// same collapse key.
func TestKilledPushesArrive(t *testing.T) {
	const mentions = 20
	users := max(min(*pushesFlag/50, 1000), mentions)
	posts := *pushesFlag / mentions
	t.Logf("%d pushes: %d posts that mention %d of %d people each", posts*mentions, posts, mentions, users)

	service, err := pushservice.StartWebPush(pushservice.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(service.Close)
	took := &arrivals{keys: make(map[string]string)}
	service.Script(took.take)
	dir := t.TempDir()
	n := notifier{
		Brokers: testenv.Kafka(t), Redis: testenv.Redis(t), Service: service.URL(),
		CA: filepath.Join(dir, "ca.pem"), Key: filepath.Join(dir, "vapid.pem"),
	}
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: service.Certificate()})
	if err := os.WriteFile(n.CA, ca, 0o600); err != nil {
		t.Fatal(err)
	}
	deps, err := n.deps(testenv.Logger(t))
	if err != nil {
		t.Fatal(err)
	}
	makeTopics(t, n.Brokers)
	api, err := New(n.config(), deps)
	if err != nil {
		t.Fatal(err)
	}
	for i := range users {
		sub, err := service.Subscribe()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := api.service.RegisterDevice(t.Context(), &pb.RegisterDeviceRequest{UserId: fmt.Sprint("user", i), Target: &pb.PushTarget{
			Provider: pb.PushProvider_PUSH_PROVIDER_WEB_PUSH, Endpoint: sub.Endpoint, P256Dh: sub.P256dh, Auth: sub.Auth,
		}}); err != nil {
			t.Fatal(err)
		}
	}
	start := func() *exec.Cmd {
		text, err := json.Marshal(n)
		if err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), notifierEnv+"="+string(text))
		cmd.Stderr = os.Stderr
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
		return cmd
	}
	process := start()
	begin := time.Now()
	var publishing sync.WaitGroup
	publishing.Go(func() {
		ids, _ := event.NewIDs(1001, time.Now)
		for i := range posts {
			names := make([]string, 0, mentions)
			first := rand.IntN(users)
			for k := range mentions {
				names = append(names, fmt.Sprint("user", (first+k)%users))
			}
			fact := posted("ann", 0, names...)
			id := ids.Next()
			fact.Photo.PostId = id.String()
			msg, err := event.Encode(event.Event{ID: id, Time: time.Now(), Source: "test", Data: fact})
			if err == nil {
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
				err = publish(ctx, deps.Publisher, event.Topic, msg)
				cancel()
			}
			if err != nil {
				t.Errorf("publish post %d: %v", i, err)
				return
			}
		}
	})
	want := posts * mentions
	reach := func(n int) {
		t.Helper()
		limit := time.After(10 * time.Minute)
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for took.count() < n {
			select {
			case <-tick.C:
			case <-limit:
				t.Fatalf("%d of %d pushes after 10 minutes", took.count(), n)
			}
		}
	}
	reach(want / 4)
	service.Close()
	t.Logf("provider killed after %d pushes", took.count())
	down := time.NewTimer(2 * time.Second)
	<-down.C
	if err := service.Restart(); err != nil {
		t.Fatal(err)
	}
	reach(want / 2)
	_ = process.Process.Kill()
	_ = process.Wait()
	t.Logf("process killed -9 after %d pushes", took.count())
	start()
	publishing.Wait()
	reach(want)
	t.Logf("%d pushes in %s, %d repeats, all with the collapse key of the first", want, time.Since(begin).Round(10*time.Millisecond), took.repeats)
	if len(took.strange) > 0 || len(service.Faults()) > 0 {
		t.Errorf("strange: %v; the service complains: %v", took.strange, service.Faults())
	}
	if took.repeats > want/10 {
		t.Errorf("%d repeats of %d: what was sent is not remembered", took.repeats, want)
	}
}

func makeTopics(t *testing.T, brokers []string) {
	t.Helper()
	admin, err := kafka.NewAdmin(brokers)
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close()
	topics := map[string]kafka.TopicConfig{event.Topic: {Partitions: 4}, event.AccountTopic: {Partitions: 4}}
	for _, topic := range []string{event.RetryTopic(serviceName), event.PoisonTopic(serviceName)} {
		topics[topic] = kafka.TopicConfig{Partitions: 1}
	}
	if err := admin.EnsureTopics(t.Context(), topics); err != nil && !strings.Contains(err.Error(), "exists") {
		t.Fatal(err)
	}
}
