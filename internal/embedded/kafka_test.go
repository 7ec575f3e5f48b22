package embedded_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"activityfeed/internal/embedded"
	"activityfeed/internal/testenv"
)

const topic = "activity"

func startKafka(t *testing.T, cfg embedded.KafkaConfig) *embedded.Kafka {
	t.Helper()
	k, err := embedded.StartKafka(cfg, testenv.Logger(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = k.Close() })
	return k
}

func client(t *testing.T, k *embedded.Kafka, opts ...kgo.Opt) *kgo.Client {
	t.Helper()
	cl, err := kgo.NewClient(append([]kgo.Opt{
		kgo.SeedBrokers(k.Brokers()...), kgo.DefaultProduceTopic(topic), kgo.RecordPartitioner(kgo.ManualPartitioner()),
	}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	return cl
}

func createTopic(t *testing.T, k *embedded.Kafka, partitions int32) *kadm.Client {
	t.Helper()
	adm := kadm.NewClient(client(t, k))
	if _, err := adm.CreateTopic(t.Context(), partitions, 1, nil, topic); err != nil {
		t.Fatal(err)
	}
	return adm
}

// produce writes n records of the given age to partition 0, each in a batch of its
// own, and returns the last one.
func produce(t *testing.T, k *embedded.Kafka, n int, age time.Duration) *kgo.Record {
	t.Helper()
	cl := client(t, k, kgo.ProducerLinger(0))
	var r *kgo.Record
	for i := range n {
		r = &kgo.Record{Value: fmt.Appendf(nil, "v%d", i), Timestamp: time.Now().Add(-age)}
		if err := cl.ProduceSync(within(t, 20*time.Second), r).FirstErr(); err != nil {
			t.Fatalf("produce: %v", err)
		}
	}
	return r
}

func commit(t *testing.T, k *embedded.Kafka, group string, at int64) {
	t.Helper()
	var os kadm.Offsets
	os.AddOffset(topic, 0, at, -1)
	if err := kadm.NewClient(client(t, k)).CommitAllOffsets(within(t, 20*time.Second), group, os); err != nil {
		t.Fatalf("commit: %v", err)
	}
}

// bounds returns start and end of partition 0.
func bounds(t *testing.T, k *embedded.Kafka) [2]int64 {
	t.Helper()
	adm := kadm.NewClient(client(t, k))
	s, err1 := adm.ListStartOffsets(t.Context(), topic)
	e, err2 := adm.ListEndOffsets(t.Context(), topic)
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	so, _ := s.Lookup(topic, 0)
	eo, _ := e.Lookup(topic, 0)
	return [2]int64{so.Offset, eo.Offset}
}

// resume reads n records of partition 0 as the group does after a restart.
func resume(t *testing.T, k *embedded.Kafka, group string, n int) []int64 {
	t.Helper()
	cl := client(t, k, kgo.ConsumerGroup(group), kgo.ConsumeTopics(topic), kgo.DisableAutoCommit(),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	defer cl.CloseAllowingRebalance()
	var got []int64
	for ctx := within(t, 20*time.Second); len(got) < n; {
		fs := cl.PollFetches(ctx)
		if err := fs.Err(); err != nil {
			t.Fatalf("group %s read %d of %d records: %v", group, len(got), n, err)
		}
		fs.EachRecord(func(r *kgo.Record) { got = append(got, r.Offset) })
	}
	return got
}

// kafkaVictim writes to four partitions at once and reads as a group, and says
// what was acknowledged.
func kafkaVictim(dir string) error {
	k, err := embedded.StartKafka(embedded.KafkaConfig{Dir: dir}, quiet())
	if err != nil {
		return err
	}
	ctx := context.Background()
	cl, err := kgo.NewClient(kgo.SeedBrokers(k.Brokers()...), kgo.DefaultProduceTopic(topic), kgo.ConsumerGroup("feed"), kgo.ConsumeTopics(topic),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.DisableAutoCommit(), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		return err
	}
	if _, err := kadm.NewClient(cl).CreateTopic(ctx, 4, 1, nil, topic); err != nil && !errors.Is(err, kerr.TopicAlreadyExists) {
		return err
	}
	says := make(chan string)
	for p := range int32(4) {
		go func() {
			for i := 0; ; i++ {
				r := &kgo.Record{Partition: p, Value: fmt.Appendf(nil, "%d-%d-%d", os.Getpid(), p, i)}
				if err := cl.ProduceSync(ctx, r).FirstErr(); err == nil {
					says <- "acked " + string(r.Value)
				}
			}
		}()
	}
	go func() {
		for {
			fs := cl.PollFetches(ctx)
			if err := cl.CommitRecords(ctx, fs.Records()...); err == nil && fs.NumRecords() > 0 {
				rs := fs.Records()
				last := rs[len(rs)-1]
				says <- fmt.Sprintf("committed %d %d", last.Partition, last.Offset+1)
			}
		}
	}()
	for line := range says {
		fmt.Println(line)
	}
	return nil
}

func TestKafkaLosesNothingWhenKilled(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	acked := map[string]bool{}
	committed := map[int32]int64{}
	note := func(line string) {
		if v, ok := strings.CutPrefix(line, "acked "); ok {
			acked[v] = true
		}
		var p int32
		var at int64
		if n, _ := fmt.Sscanf(line, "committed %d %d", &p, &at); n == 2 {
			committed[p] = at
		}
	}
	// Twice, because what the first crash leaves torn must not cost anything at
	// the second.
	for range 2 {
		v := startVictim(t, "kafka", dir)
		for seen := 0; seen < 500 || len(committed) < 4; seen++ {
			if !v.out.Scan() {
				t.Fatal("the victim ended by itself")
			}
			note(v.out.Text())
		}
		for _, line := range v.kill(t) {
			note(line)
		}
		tear(t, filepath.Join(dir, "log", "groups.log"))
		segments, err := filepath.Glob(filepath.Join(dir, "log", "partitions", "*", "*.dat"))
		if err != nil || len(segments) == 0 {
			t.Fatalf("no segments: %v", err)
		}
		tear(t, segments[0])
	}

	k := startKafka(t, embedded.KafkaConfig{Dir: dir})
	cl := client(t, k)
	got := map[string]int{}
	ends, err := kadm.NewClient(cl).ListEndOffsets(t.Context(), topic)
	if err != nil {
		t.Fatal(err)
	}
	var want int64
	parts := map[int32]kgo.Offset{}
	ends.Each(func(o kadm.ListedOffset) {
		want += o.Offset
		parts[o.Partition] = kgo.NewOffset().At(0)
	})
	cl.AddConsumePartitions(map[string]map[int32]kgo.Offset{topic: parts})
	for ctx := within(t, 20*time.Second); want > 0; {
		fs := cl.PollFetches(ctx)
		if err := fs.Err(); err != nil {
			t.Fatalf("%d records could not be read: %v", want, err)
		}
		fs.EachRecord(func(r *kgo.Record) { got[string(r.Value)]++; want-- })
	}
	for v := range acked {
		if got[v] != 1 {
			t.Errorf("acknowledged record %s is there %d times", v, got[v])
		}
	}
	offsets, err := kadm.NewClient(cl).FetchOffsets(t.Context(), "feed")
	if err != nil {
		t.Fatal(err)
	}
	for p, at := range committed {
		if o, _ := offsets.Lookup(topic, p); o.At < at {
			t.Errorf("partition %d: committed is %d, and %d was acknowledged", p, o.At, at)
		}
	}
	t.Logf("%d acknowledged records and the commits of %d partitions survived two kills", len(acked), len(committed))
}

// tear leaves the file as a write that was cut off does.
func tear(t *testing.T, path string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString("\x40\x00\x00\x00 half an entry"); err != nil {
		t.Fatal(err)
	}
}

func TestKafkaDirectoryHasOneServer(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	startKafka(t, embedded.KafkaConfig{Dir: dir})
	_, err := embedded.StartKafka(embedded.KafkaConfig{Dir: dir}, testenv.Logger(t))
	want := fmt.Sprintf("is in use by process %d: stop that process, or choose another directory", os.Getpid())
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("the second StartKafka says %v, want ...%s", err, want)
	}
}

func TestKafkaCleansWithoutLoss(t *testing.T) {
	t.Parallel()
	const day = 24 * time.Hour
	tests := map[string]struct {
		groups    map[string]int64
		required  []string
		fresh     int
		removed   int64
		wantStart int64
	}{
		"up to the slowest group":            {groups: map[string]int64{"feed": 45, "notify": 30}, required: []string{"feed", "notify"}, removed: 30, wantStart: 30},
		"a group nobody named counts":        {groups: map[string]int64{"feed": 45, "other": 20}, required: []string{"feed"}, removed: 20, wantStart: 20},
		"a group that never came holds all":  {groups: map[string]int64{"feed": 50}, required: []string{"feed", "notify"}},
		"the last record stays":              {groups: map[string]int64{"feed": 50}, required: []string{"feed"}, removed: 49, wantStart: 49},
		"young records stay":                 {groups: map[string]int64{"feed": 60}, required: []string{"feed"}, fresh: 10, removed: 50, wantStart: 50},
		"no group reads it: the age decides": {fresh: 10, removed: 50, wantStart: 50},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := embedded.KafkaConfig{Dir: t.TempDir(), MaxAge: day, CleanEvery: time.Hour, Groups: map[string][]string{topic: tt.required}}
			k := startKafka(t, cfg)
			createTopic(t, k, 1)
			produce(t, k, 50, 2*day)
			produce(t, k, tt.fresh, 0)
			for g, at := range tt.groups {
				commit(t, k, g, at)
			}
			if n, err := k.Clean(t.Context()); err != nil || n != tt.removed {
				t.Errorf("Clean = %d, %v, want %d", n, err, tt.removed)
			}
			end := int64(50 + tt.fresh)
			if got, want := bounds(t, k), [2]int64{tt.wantStart, end}; got != want {
				t.Errorf("the log is %v, want %v", got, want)
			}
			if err := k.Close(); err != nil {
				t.Fatal(err)
			}

			// After a restart nothing that a group had not passed is gone, and the
			// offsets go on.
			k = startKafka(t, cfg)
			if got, want := bounds(t, k), [2]int64{tt.wantStart, end}; got != want {
				t.Errorf("after a restart the log is %v, want %v", got, want)
			}
			if r := produce(t, k, 1, 0); r.Offset != end {
				t.Errorf("the next record is at %d, want %d", r.Offset, end)
			}
			for _, g := range slices.Sorted(maps.Keys(tt.groups)) {
				var want []int64
				for o := tt.groups[g]; o <= end; o++ {
					want = append(want, o)
				}
				if diff := cmp.Diff(want, resume(t, k, g, len(want))); diff != "" {
					t.Errorf("group %s goes on (-want +got):\n%s", g, diff)
				}
			}
		})
	}
}

func TestKafkaSetsBackCommitsBeyondTheEnd(t *testing.T) {
	t.Parallel()
	tests := map[string]func(t *testing.T, partition string){
		"the log lost its end": func(*testing.T, string) {}, // committed further than it ever went
		"the log lost everything": func(t *testing.T, partition string) {
			if err := os.RemoveAll(partition); err != nil {
				t.Fatal(err)
			}
		},
	}
	for name, lose := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := embedded.KafkaConfig{Dir: t.TempDir()}
			k := startKafka(t, cfg)
			createTopic(t, k, 1)
			produce(t, k, 10, 0)
			commit(t, k, "feed", 100)
			commit(t, k, "notify", 0)
			if err := k.Close(); err != nil {
				t.Fatal(err)
			}
			lose(t, filepath.Join(cfg.Dir, "log", "partitions", topic+"-0"))

			k = startKafka(t, cfg)
			end := bounds(t, k)[1]
			produce(t, k, 1, 0)
			if got, want := resume(t, k, "feed", 1), []int64{end}; !slices.Equal(got, want) {
				t.Errorf("the group that was ahead reads %v, want %v", got, want)
			}
			if got := resume(t, k, "notify", int(end)+1); got[0] != 0 {
				t.Errorf("the group that was not ahead begins at %d, want 0", got[0])
			}
		})
	}
}

func TestKafkaForgetsOldSessions(t *testing.T) {
	t.Parallel()
	cfg := embedded.KafkaConfig{Dir: t.TempDir()}
	k := startKafka(t, cfg)
	createTopic(t, k, 1)
	produce(t, k, 5, 0)
	// A member that is still there when the log closes.
	cl := client(t, k, kgo.ConsumerGroup("feed"), kgo.ConsumeTopics(topic), kgo.DisableAutoCommit())
	if fs := cl.PollFetches(within(t, 20*time.Second)); fs.Err() != nil {
		t.Fatal(fs.Err())
	}
	if err := k.Close(); err != nil {
		t.Fatal(err)
	}
	k = startKafka(t, cfg)
	commit(t, k, "feed", 3) // refused while the group has members
	if got, want := resume(t, k, "feed", 2), []int64{3, 4}; !slices.Equal(got, want) {
		t.Errorf("the group reads %v, want %v", got, want)
	}
}

func TestKafkaRefusesRecordsWithoutRoom(t *testing.T) {
	t.Parallel()
	const enough = 1 << 30
	k := startKafka(t, embedded.KafkaConfig{Dir: t.TempDir(), MinFree: enough, FreeEvery: time.Hour})
	createTopic(t, k, 1)
	k.LookAtDisk(enough)
	if err := k.Room(); err != nil {
		t.Fatalf("Room = %v with just enough", err)
	}
	k.LookAtDisk(enough - 1)
	if err := k.Room(); !errors.Is(err, embedded.ErrNoRoom) {
		t.Fatalf("Room = %v with too little, want %v", err, embedded.ErrNoRoom)
	}
	// The producer is told, waits, and its record goes in when there is room.
	told := make(chan struct{}, 10_000)
	cl := client(t, k, kgo.WithHooks(onProduced(func() { told <- struct{}{} })),
		kgo.MetadataMinAge(10*time.Millisecond), kgo.RetryBackoffFn(func(int) time.Duration { return 10 * time.Millisecond }))
	done := make(chan error, 1)
	cl.Produce(t.Context(), &kgo.Record{Value: []byte("v")}, func(_ *kgo.Record, err error) { done <- err })
	<-told
	<-told
	select {
	case err := <-done:
		t.Fatalf("the record is through: %v", err)
	default:
	}
	k.LookAtDisk(enough)
	if err := k.Room(); !errors.Is(err, embedded.ErrNoRoom) {
		t.Errorf("Room = %v at the edge, want %v still", err, embedded.ErrNoRoom)
	}
	k.LookAtDisk(2 * enough)
	if err := k.Room(); err != nil {
		t.Errorf("Room = %v with enough again", err)
	}
	if err := <-done; err != nil {
		t.Errorf("the record that waited: %v", err)
	}
	if got, want := bounds(t, k), [2]int64{0, 1}; got != want {
		t.Errorf("the log is %v, want %v", got, want)
	}
}

// onProduced is called for each answer to a produce request.
type onProduced func()

func (f onProduced) OnBrokerE2E(_ kgo.BrokerMetadata, key int16, _ kgo.BrokerE2E) {
	if key == 0 {
		f()
	}
}

func TestKafkaWithFsync(t *testing.T) {
	t.Parallel()
	cfg := embedded.KafkaConfig{Dir: t.TempDir(), Sync: embedded.SyncFsync}
	k := startKafka(t, cfg)
	createTopic(t, k, 1)
	produce(t, k, 100, 0)
	if err := k.Close(); err != nil {
		t.Fatal(err)
	}
	if got, want := bounds(t, startKafka(t, cfg)), [2]int64{0, 100}; got != want {
		t.Errorf("the log is %v, want %v", got, want)
	}
}

func TestKafkaConfigNamesEveryFault(t *testing.T) {
	t.Parallel()
	_, err := embedded.StartKafka(embedded.KafkaConfig{Port: -1, Sync: "maybe"}, testenv.Logger(t))
	for _, want := range []string{"Dir", "port", "sync"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("StartKafka says %v, want it to name %s", err, want)
		}
	}
}

func TestGateKeepsClientsOutUntilItOpens(t *testing.T) {
	t.Parallel()
	l, open, err := embedded.NewGate()
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	conn, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	in := make(chan error, 1)
	go func() {
		_, err := l.Accept()
		in <- err
	}()
	select {
	case <-in:
		t.Fatal("the client is in before the gate opened")
	default:
	}
	open()
	if err := <-in; err != nil {
		t.Errorf("Accept: %v", err)
	}
}

func TestCutTornTail(t *testing.T) {
	t.Parallel()
	// One entry of two bytes of version and no data, as kfake writes it.
	const entry = "\x02\x00\x00\x00\xa5\xef\xc3\xe2\x01\x00"
	tests := map[string]struct {
		have string
		cut  int64
	}{
		"empty":              {"", 0},
		"whole":              {entry + entry, 0},
		"half a header":      {entry + entry[:5], 5},
		"half an entry":      {entry + entry[:9], 9},
		"wrong checksum":     {entry + "\x02\x00\x00\x00\x00\x00\x00\x00\x01\x00", 10},
		"zeros, as ext4 has": {entry + strings.Repeat("\x00", 20), 20},
		"a huge length":      {entry + "\xff\xff\xff\xff" + entry, 14},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "groups.log")
			if err := os.WriteFile(path, []byte(tt.have), 0o600); err != nil {
				t.Fatal(err)
			}
			cut, err := embedded.CutTornTail(path)
			if err != nil || cut != tt.cut {
				t.Errorf("CutTornTail = %d, %v, want %d", cut, err, tt.cut)
			}
			got, err := os.ReadFile(path)
			if want := tt.have[:len(tt.have)-int(tt.cut)]; err != nil || string(got) != want {
				t.Errorf("the file holds %q, %v, want %q", got, err, want)
			}
		})
	}
}
