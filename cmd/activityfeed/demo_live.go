package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
	"google.golang.org/grpc"

	pb "activityfeed/proto/activityfeed/v1"
)

// showLive watches a home feed while an author posts, and while the reader marks it
// as seen on another device.
func (c *demoCmd) showLive(ctx context.Context, conn *grpc.ClientConn, reader, author string, con *console) error {
	feed := pb.NewFeedServiceClient(conn)
	page, err := feed.GetHomeFeed(ctx, &pb.GetHomeFeedRequest{UserId: reader, PageSize: 1})
	if err != nil {
		return fmt.Errorf("read the feed of %s: %w", reader, err)
	}
	stream, err := feed.WatchFeed(ctx, &pb.WatchFeedRequest{UserId: reader, Cursor: page.GetWatchCursor()})
	if err != nil {
		return fmt.Errorf("watch the feed of %s: %w", reader, err)
	}
	first, err := stream.Recv()
	if err != nil || !first.GetCaughtUp() {
		return fmt.Errorf("the stream of %s begins with %v: %w", reader, first, err)
	}

	rows := table.NewWriter()
	rows.SetTitle("Live on the stream of %s (WatchFeed)", reader)
	rows.AppendHeader(table.Row{"what", "who", "post id", "after"})
	begin := time.Now()
	posted, err := pb.NewPostServiceClient(conn).PostPhoto(ctx, &pb.PostPhotoRequest{
		UserId: author, Caption: "live from the ferry",
		Media: []*pb.Media{{Url: "https://photos.example/live.jpg", Width: 1600, Height: 1200, AltText: "a ferry"}},
	})
	if err != nil {
		return fmt.Errorf("%s posts: %w", author, err)
	}
	want := posted.GetPhoto().GetPostId()
	news, err := stream.Recv()
	if err != nil {
		return fmt.Errorf("stream of %s: %w", reader, err)
	}
	if got := news.GetPhoto().GetPostId(); got != want {
		return fmt.Errorf("the stream of %s has %v, want post %s", reader, news, want)
	}
	rows.AppendRow(table.Row{"new post", author, want, sinceMillis(begin)})

	begin = time.Now()
	marked, err := feed.MarkSeen(ctx, &pb.MarkSeenRequest{UserId: reader, PostId: want})
	if err != nil {
		return fmt.Errorf("mark the feed of %s: %w", reader, err)
	}
	if news, err = stream.Recv(); err != nil {
		return fmt.Errorf("stream of %s: %w", reader, err)
	}
	if news.GetSeenPostId() != want {
		return errors.New("the mark did not come over the stream: " + news.String())
	}
	rows.AppendRow(table.Row{"seen elsewhere", reader, want, sinceMillis(begin)})
	rows.AppendFooter(table.Row{"", "", fmt.Sprintf("%d unseen", marked.GetUnseen().GetCount())})
	con.printTable(rows)
	return nil
}

func sinceMillis(begin time.Time) string {
	return fmt.Sprintf("%.1f ms", float64(time.Since(begin).Microseconds())/1000)
}
