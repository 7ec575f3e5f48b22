package bench

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/proto"

	"activityfeed/feed"
	"activityfeed/internal/event"
	"activityfeed/internal/rpc"
	pb "activityfeed/proto/activityfeed/v1"
)

// ReadTarget is the share of a bare gRPC method that GetHomeFeed must reach, see
// the targets in ARCHITECTURE.md.
const ReadTarget = 0.6

// ReadConfig says what [Read] measures and where.
type ReadConfig struct {
	// Brokers are those of an empty log. Required.
	Brokers []string
	// RedisAddr is an empty Redis, host:port. Required.
	RedisAddr string
	// Users is how many people read. Default 2,000.
	Users int
	// Follows is how many authors each of them follows. Default 50.
	Follows int
	// Posts is how many there are. Default 20,000.
	Posts int
	// Callers is how many calls are under way at once. Default 64.
	Callers int
	// Period is how long each way is measured in a round. Default 2 s.
	Period time.Duration
	// Rounds is how often everything is measured; medians count. Default 9: many short
	// ones, so that a neighbour's work falls into both ways.
	Rounds int
}

func (c ReadConfig) withDefaults() ReadConfig {
	c.Users = cmp.Or(c.Users, 2_000)
	c.Follows = min(cmp.Or(c.Follows, 50), c.Users-1)
	c.Posts = cmp.Or(c.Posts, 20_000)
	c.Callers = cmp.Or(c.Callers, 64)
	c.Period = cmp.Or(c.Period, 2*time.Second)
	c.Rounds = cmp.Or(c.Rounds, 9)
	return c
}

// Read measures how many first pages of 20 posts a second warm home feeds give
// over gRPC, with everything that the server does for a call; beside it, in turns, a
// bare gRPC server that answers the same calls with the same bytes from memory. Nobody
// posts meanwhile, so that each page was read before and lies in memory; how many there
// are of pages that have changed, which are read from Redis, is measured as well. It
// writes a table to w.
func Read(ctx context.Context, w io.Writer, cfg ReadConfig, log *slog.Logger) (Result, error) {
	cfg = cfg.withDefaults()
	client := newRedis(cfg.RedisAddr)
	defer func() { _ = client.Close() }()
	if err := checkEmpty(ctx, cfg.Brokers, client); err != nil {
		return Result{}, fmt.Errorf("bench read: %w", err)
	}
	r := &reading{cfg: cfg, redis: client, log: log}
	if err := r.run(ctx); err != nil {
		return Result{}, fmt.Errorf("bench read: %w", err)
	}
	ours, bare := rates(r.ours), rates(r.bare)
	title := fmt.Sprintf("GetHomeFeed, 20 of %d posts, %d readers who follow %d each, %d calls at once, medians of %d rounds",
		cfg.Posts, cfg.Users, cfg.Follows, cfg.Callers, cfg.Rounds)
	writeTable(w, title, "requests/s", []row{
		{"activityfeed", median(ours), r.note(r.ours)},
		{"  if each page had changed", median(rates(r.changed)), r.note(r.changed)},
		{"a bare gRPC method with the same bytes", median(bare), r.note(r.bare)},
	})
	return Result{Name: "read", Ratio: medianRatio(ours, bare), Target: ReadTarget}, nil
}

// reading is a measurement under way.
type reading struct {
	cfg   ReadConfig
	redis *redis.Client
	log   *slog.Logger

	// pages holds what each user gets, as it travels.
	pages map[string][]byte
	// changed is of a server that keeps no pages.
	ours, changed, bare []calls
}

// calls is what a period gave.
type calls struct {
	rate     float64
	p50, p99 time.Duration
	bytes    int
}

func rates(all []calls) []float64 {
	rates := make([]float64, len(all))
	for i, c := range all {
		rates[i] = c.rate
	}
	return rates
}

func (r *reading) note(all []calls) string {
	last := all[len(all)-1]
	return fmt.Sprintf("p50 %s, p99 %s, %d bytes", last.p50.Round(10*time.Microsecond), last.p99.Round(10*time.Microsecond), last.bytes)
}

func (r *reading) run(ctx context.Context) error {
	r.log.Info("bench read: fill the log and the feed")
	if err := r.fill(ctx); err != nil {
		return fmt.Errorf("fill: %w", err)
	}
	s, err := startStack(ctx, stackConfig{brokers: r.cfg.Brokers, redis: r.redis, inFlight: 256}, r.log)
	if err != nil {
		return err
	}
	defer func() { _ = s.close() }()
	if _, err := s.awaitPosts(ctx, r.cfg.Posts); err != nil {
		return err
	}
	addr, stop, err := r.serve(s.feed)
	if err != nil {
		return err
	}
	defer stop()
	forgetful, err := feed.New(feed.Config{PageCache: -1}, feed.Deps{Log: r.log, Redis: r.redis})
	if err != nil {
		return err
	}
	defer func() { _ = forgetful.Close() }()
	changedAddr, stopChanged, err := r.serve(forgetful)
	if err != nil {
		return err
	}
	defer stopChanged()
	// The first read of a feed builds its list, and tells what the bare server answers.
	if err := r.warm(ctx, addr); err != nil {
		return fmt.Errorf("read every feed once: %w", err)
	}
	bareAddr, stopBare, err := r.serveBare()
	if err != nil {
		return err
	}
	defer stopBare()
	for round := range r.cfg.Rounds {
		r.log.Info("bench read: measure", "round", round+1, "of", r.cfg.Rounds)
		for _, way := range []struct {
			addr string
			into *[]calls
		}{{addr, &r.ours}, {changedAddr, &r.changed}, {bareAddr, &r.bare}} {
			c, err := r.measure(ctx, way.addr)
			if err != nil {
				return err
			}
			*way.into = append(*way.into, c)
		}
	}
	return nil
}

// postEvery is the time between two posts: with 50 of 2,000 followees there is one
// in a feed every six minutes or so.
const postEvery = 10 * time.Second

// fill writes the follows and the posts to the log, the follows of an author before
// their posts.
func (r *reading) fill(ctx context.Context) error {
	random := rand.New(rand.NewPCG(1, 2))
	var follows []*pb.UserFollowed
	for user := range r.cfg.Users {
		for _, followee := range random.Perm(r.cfg.Users)[:r.cfg.Follows] {
			if followee != user {
				follows = append(follows, &pb.UserFollowed{FollowerId: userName(user), FolloweeId: userName(followee)})
			}
		}
	}
	if err := appendFacts(ctx, r.cfg.Brokers, follows, r.log); err != nil {
		return err
	}
	posts := make([]*pb.PhotoPosted, r.cfg.Posts)
	oldest := time.Now().Add(-time.Duration(r.cfg.Posts) * postEvery)
	for i := range posts {
		id := event.FirstID(oldest.Add(time.Duration(i)*postEvery)) + 1
		// Everybody posts, so that all follows are done when all posts are.
		posts[i] = newPost(id, userName(i%r.cfg.Users), i)
	}
	return appendFacts(ctx, r.cfg.Brokers, posts, r.log)
}

// serve runs the server's own stack of interceptors over the feed.
func (r *reading) serve(feeds *feed.Feed) (addr string, stop func(), err error) {
	server, err := rpc.New(rpc.Config{}, r.log, prometheus.NewRegistry())
	if err != nil {
		return "", nil, err
	}
	feeds.Register(server.Registrar())
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = server.Serve(ctx, listener) // its end is seen by the callers
	}()
	return listener.Addr().String(), func() { cancel(); <-ended }, nil
}

// homeFeedMethod is the full name of the method that both servers answer.
const homeFeedMethod = pb.FeedService_GetHomeFeed_FullMethodName

// serveBare runs a gRPC server with nothing in it but the method, with as many
// waiting goroutines as ours has.
func (r *reading) serveBare() (addr string, stop func(), err error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}
	server := grpc.NewServer(grpc.ForceServerCodecV2(rawCodec{}), grpc.NumStreamWorkers(rpc.StreamWorkers))
	server.RegisterService(&grpc.ServiceDesc{
		ServiceName: pb.FeedService_ServiceDesc.ServiceName,
		HandlerType: (*any)(nil),
		Methods: []grpc.MethodDesc{{
			MethodName: "GetHomeFeed",
			Handler: func(_ any, _ context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
				var raw []byte
				if err := decode(&raw); err != nil {
					return nil, err
				}
				var request pb.GetHomeFeedRequest
				if err := proto.Unmarshal(raw, &request); err != nil {
					return nil, err
				}
				return r.pages[request.GetUserId()], nil
			},
		}},
	}, struct{}{})
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = server.Serve(listener)
	}()
	return listener.Addr().String(), func() { server.Stop(); <-ended }, nil
}

// connections is how many the callers share.
const connections = 4

// dial returns connections whose calls carry bytes: what a client makes of an
// answer is no part of the measurement.
func dial(addr string) (conns []*grpc.ClientConn, closeAll func(), err error) {
	closeAll = func() {
		for _, conn := range conns {
			_ = conn.Close()
		}
	}
	for range connections {
		conn, err := grpc.NewClient(addr, grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithDefaultCallOptions(grpc.ForceCodecV2(rawCodec{})))
		if err != nil {
			closeAll()
			return nil, nil, err
		}
		conns = append(conns, conn)
	}
	return conns, closeAll, nil
}

// request returns the call of a user, as it travels.
func request(user int) ([]byte, error) {
	return proto.Marshal(&pb.GetHomeFeedRequest{UserId: userName(user), PageSize: 20})
}

// warm reads every feed once and keeps what came.
func (r *reading) warm(ctx context.Context, addr string) error {
	conns, closeAll, err := dial(addr)
	if err != nil {
		return err
	}
	defer closeAll()
	r.pages = make(map[string][]byte, r.cfg.Users)
	var mu sync.Mutex
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(r.cfg.Callers)
	for user := range r.cfg.Users {
		g.Go(func() error {
			raw, err := request(user)
			if err != nil {
				return err
			}
			var page []byte
			if err := conns[user%connections].Invoke(ctx, homeFeedMethod, raw, &page); err != nil {
				return err
			}
			var response pb.GetHomeFeedResponse
			if err := proto.Unmarshal(page, &response); err != nil {
				return err
			}
			if n := len(response.GetPhotos()); n != 20 {
				return fmt.Errorf("%s has %d posts on the first page, want 20", userName(user), n)
			}
			mu.Lock()
			defer mu.Unlock()
			r.pages[userName(user)] = page
			return nil
		})
	}
	return g.Wait()
}

// cursorSlack is by how many bytes the watch cursor of a page may vary: it tells the
// time.
const cursorSlack = 16

// measure calls for a period and checks that every answer is of the right size.
func (r *reading) measure(ctx context.Context, addr string) (calls, error) {
	conns, closeAll, err := dial(addr)
	if err != nil {
		return calls{}, err
	}
	defer closeAll()
	took := make([][]time.Duration, r.cfg.Callers)
	var size int
	start := time.Now()
	end := start.Add(r.cfg.Period)
	g, ctx := errgroup.WithContext(ctx)
	for caller := range r.cfg.Callers {
		g.Go(func() error {
			random := rand.New(rand.NewPCG(uint64(caller), 3))
			for time.Now().Before(end) {
				user := random.IntN(r.cfg.Users)
				raw, err := request(user)
				if err != nil {
					return err
				}
				begin := time.Now()
				var page []byte
				if err := conns[caller%connections].Invoke(ctx, homeFeedMethod, raw, &page); err != nil {
					return err
				}
				took[caller] = append(took[caller], time.Since(begin))
				if want := len(r.pages[userName(user)]); len(page) < want-cursorSlack || len(page) > want+cursorSlack {
					return fmt.Errorf("the page of %s has %d bytes, had %d", userName(user), len(page), want)
				}
				if caller == 0 {
					size = len(page)
				}
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return calls{}, err
	}
	all := slices.Concat(took...)
	if len(all) == 0 {
		return calls{}, errors.New("no call ended in time")
	}
	slices.Sort(all)
	return calls{
		rate: float64(len(all)) / time.Since(start).Seconds(),
		p50:  all[len(all)/2], p99: all[len(all)*99/100], bytes: size,
	}, nil
}
