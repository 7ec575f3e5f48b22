package main

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"

	"activityfeed/analytics"
	"activityfeed/internal/app"
	pb "activityfeed/proto/activityfeed/v1"
)

// demoCmd shows the main job in one go: a small seeded graph, some photos, and
// what became of them in all three stores.
type demoCmd struct {
	Seed  uint64 `default:"7" help:"Seed of the graph and the posts."`
	Posts int    `default:"24" help:"How many photos are posted."`
}

var demoUsers = []string{"ann", "ben", "cleo", "dan", "eve", "finn", "gus", "hana", "ivo", "june", "kim", "lars"}

var demoCaptions = []string{
	"first frost on the allotment", "the ferry was late again", "grandmother's pear tree", "city lights, no filter",
	"new lens, old harbour", "low tide", "she found the biggest shell", "bread, third try", "fog over the bridge",
	"our street in 1994", "the cat has opinions", "last train home",
}

// Validate refuses a story without photos, and one that takes all day.
func (c *demoCmd) Validate() error { return inRange("posts", c.Posts, 1, 10_000) }

// Run starts a server in a folder of its own, drives it through its API and
// stops it.
func (c *demoCmd) Run(ctx context.Context, con *console) error {
	dir, err := os.MkdirTemp("", "activityfeed-demo-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)

	started := time.Now()
	fmt.Fprintln(con.out, "Starting the log, Redis, ClickHouse and all services in one process ...")
	cfg, err := defaultServeConfig(dir)
	if err != nil {
		return err
	}
	log, err := con.quietLog()
	if err != nil {
		return err
	}
	srv, err := newServer(ctx, cfg, log)
	if err != nil {
		return err
	}
	fmt.Fprintf(con.out, "Up in %s: gRPC on %s.\n\n", time.Since(started).Round(time.Millisecond), srv.endpoints().API)

	stories := app.Part{Name: "demo", Run: func(ctx context.Context) error {
		if err := c.tell(ctx, srv, con); err != nil {
			return err
		}
		return app.ErrFinished
	}}
	if err := srv.run(ctx, stories); err != nil {
		return err
	}
	fmt.Fprintf(con.out, "Stopped in order; all of it took %s. Next: 'make run' keeps a server up.\n", time.Since(started).Round(100*time.Millisecond))
	return nil
}

func (c *demoCmd) tell(ctx context.Context, srv *server, con *console) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	conn, err := dial(srv.endpoints().API)
	if err != nil {
		return err
	}
	defer conn.Close()

	rng := rand.New(rand.NewPCG(c.Seed, 0))
	follows, err := c.follow(ctx, pb.NewGraphServiceClient(conn), rng)
	if err != nil {
		return err
	}
	posted, err := c.post(ctx, pb.NewPostServiceClient(conn), rng)
	if err != nil {
		return err
	}
	edges := 0
	for _, f := range follows {
		edges += len(f.list)
	}
	fmt.Fprintf(con.out, "%d people, %d follows, %d photos posted over gRPC.\n", len(demoUsers), edges, len(posted))
	reader := demoUsers[0]
	fmt.Fprintf(con.out, "%s follows %s.\n\n", reader, strings.Join(follows[reader].list, ", "))

	if err := srv.caughtUp(ctx); err != nil {
		return err
	}
	if err := c.showFeed(ctx, pb.NewFeedServiceClient(conn), reader, follows[reader], posted, con); err != nil {
		return err
	}
	if err := c.showRows(ctx, srv, con); err != nil {
		return err
	}
	if err := c.showInbox(ctx, pb.NewNotificationServiceClient(conn), reader, con); err != nil {
		return err
	}
	return c.showLive(ctx, conn, reader, follows[reader].list[0], con)
}

// followees is whom one person follows.
type followees struct {
	list []string
	set  map[string]bool
}

func (c *demoCmd) follow(ctx context.Context, graph pb.GraphServiceClient, rng *rand.Rand) (map[string]followees, error) {
	follows := make(map[string]followees, len(demoUsers))
	for _, user := range demoUsers {
		f := followees{set: make(map[string]bool)}
		for _, i := range rng.Perm(len(demoUsers))[:5] {
			target := demoUsers[i]
			if target == user {
				continue
			}
			_, err := graph.Follow(ctx, &pb.FollowRequest{UserId: user, TargetId: target, NotificationLevel: pb.NotificationLevel_NOTIFICATION_LEVEL_ALL})
			if err != nil {
				return nil, fmt.Errorf("%s follows %s: %w", user, target, err)
			}
			f.list = append(f.list, target)
			f.set[target] = true
		}
		follows[user] = f
	}
	return follows, nil
}

func (c *demoCmd) post(ctx context.Context, posts pb.PostServiceClient, rng *rand.Rand) ([]*pb.Photo, error) {
	var posted []*pb.Photo
	for i := range c.Posts {
		request := &pb.PostPhotoRequest{
			UserId:  demoUsers[rng.IntN(len(demoUsers))],
			Caption: demoCaptions[rng.IntN(len(demoCaptions))],
			Media: []*pb.Media{{
				Url:   fmt.Sprintf("https://photos.example/%d/%d.jpg", c.Seed, i),
				Width: 1600, Height: 1200, AltText: "a photo of the demo",
			}},
			IdempotencyKey: fmt.Sprintf("demo/%d/%d", c.Seed, i),
		}
		if i == c.Posts/2 {
			request.UserId, request.Mentions = demoUsers[3], []string{demoUsers[0]}
			request.Caption = "look who is here: @" + demoUsers[0]
		}
		response, err := posts.PostPhoto(ctx, request)
		if err != nil {
			return nil, fmt.Errorf("%s posts photo %d: %w", request.GetUserId(), i, err)
		}
		posted = append(posted, response.GetPhoto())
	}
	return posted, nil
}

// demoRows is how many rows of a table tell enough.
const demoRows = 5

// showFeed prints a home feed and checks it against what was posted.
func (c *demoCmd) showFeed(ctx context.Context, feed pb.FeedServiceClient, reader string, follows followees, posted []*pb.Photo, con *console) error {
	response, err := feed.GetHomeFeed(ctx, &pb.GetHomeFeedRequest{UserId: reader, PageSize: 100})
	if err != nil {
		return fmt.Errorf("read the feed of %s: %w", reader, err)
	}
	rows := table.NewWriter()
	rows.SetTitle("The home feed of %s, from Redis", reader)
	rows.AppendHeader(table.Row{"#", "author", "caption", "post id", "posted"})
	var got, want []string
	for i, photo := range response.GetPhotos() {
		got = append(got, photo.GetPostId())
		if i < demoRows {
			rows.AppendRow(table.Row{i + 1, photo.GetAuthorId(), photo.GetCaption(), photo.GetPostId(), photo.GetCreateTime().AsTime().Format("15:04:05.000")})
		}
	}
	if more := len(got) - demoRows; more > 0 {
		rows.AppendRow(table.Row{"…", "", fmt.Sprintf("%d more", more)})
	}
	for _, photo := range posted {
		if photo.GetAuthorId() == reader || follows.set[photo.GetAuthorId()] {
			want = slices.Insert(want, 0, photo.GetPostId())
		}
	}
	rows.AppendFooter(table.Row{"", "", fmt.Sprintf("%d photos in all", len(got))})
	con.printTable(rows)
	if !slices.Equal(got, want) {
		return fmt.Errorf("the feed of %s is not what it should be:\n got %v\nwant %v", reader, got, want)
	}
	return nil
}

func (c *demoCmd) showRows(ctx context.Context, srv *server, con *console) error {
	if len(srv.endpoints().ClickHouse.Addr) == 0 {
		fmt.Fprintln(con.out, "No ClickHouse engine here: 'make engines' fetches it. The log keeps the events for it.")
		return nil
	}
	reader, err := analytics.OpenReader(analyticsConfig(srv.endpoints()))
	if err != nil {
		return err
	}
	defer reader.Close()
	fmt.Fprintln(con.out, "The events by type, from ClickHouse (activityfeed sql \"SELECT ...\")")
	var text bytes.Buffer
	const question = "SELECT event_type, uniqExact(event_id) AS events, uniqExact(actor_id) AS people FROM events GROUP BY event_type ORDER BY events DESC"
	if err := reader.Query(ctx, &text, question, "table"); err != nil {
		return err
	}
	fmt.Fprintln(con.out, text.String())
	return nil
}

func (c *demoCmd) showInbox(ctx context.Context, notifications pb.NotificationServiceClient, reader string, con *console) error {
	response, err := notifications.ListNotifications(ctx, &pb.ListNotificationsRequest{UserId: reader, PageSize: 100})
	if err != nil {
		return fmt.Errorf("read the inbox of %s: %w", reader, err)
	}
	rows := table.NewWriter()
	rows.SetTitle("The inbox of %s", reader)
	rows.AppendHeader(table.Row{"#", "what", "who", "post id"})
	for i, n := range response.GetNotifications() {
		if i < demoRows {
			what := strings.ToLower(strings.TrimPrefix(n.GetType().String(), "NOTIFICATION_TYPE_"))
			rows.AppendRow(table.Row{i + 1, what, n.GetActorId(), n.GetPostId()})
		}
	}
	if more := len(response.GetNotifications()) - demoRows; more > 0 {
		rows.AppendRow(table.Row{"…", "", fmt.Sprintf("%d more", more)})
	}
	rows.AppendFooter(table.Row{"", "", fmt.Sprintf("%d unread", response.GetUnreadCount())})
	con.printTable(rows)
	if response.GetUnreadCount() == 0 {
		return fmt.Errorf("the inbox of %s is empty", reader)
	}
	return nil
}
