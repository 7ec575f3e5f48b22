package audit

import (
	"context"
	"errors"
	"fmt"

	"google.golang.org/grpc/status"

	"activityfeed/internal/event"
	"activityfeed/internal/load/longrun"
	pb "activityfeed/proto/activityfeed/v1"
)

// reading is a home feed as the API served it.
type reading struct {
	posts []Post
	// cut says that there may be more after the last post.
	cut bool
	// faults are pages that break the contract of the API, and a feed that cannot be
	// read at all.
	faults []Difference
}

// read reads a feed page by page to its end, or to the depth of the settings.
// expected is how many posts it should have; one that goes on far beyond is
// stopped, for it may have no end. The error says that the server is away.
func (a *auditor) read(ctx context.Context, user string, expected int) (reading, error) {
	var (
		r        reading
		token    string
		maxPages = 10 + 2*expected/a.cfg.PageSize
	)
	fault := func(kind Kind, format string, args ...any) {
		r.faults = append(r.faults, Difference{User: user, Kind: kind, Reason: fmt.Sprintf(format, args...)})
	}
	for page := 1; ; page++ {
		var resp *pb.GetHomeFeedResponse
		err := a.patience.Do(ctx, func(ctx context.Context) (err error) {
			resp, err = a.deps.Feed.GetHomeFeed(ctx, &pb.GetHomeFeedRequest{UserId: user, PageSize: int32(a.cfg.PageSize), PageToken: token})
			return err
		})
		switch {
		case ctx.Err() != nil || errors.Is(err, longrun.ErrGaveUp):
			return r, fmt.Errorf("read feed of %s: %w", user, err)
		case err != nil:
			r.cut = true
			fault(Unreadable, "page %d: %s: %q", page, status.Code(err), status.Convert(err).Message())
			return r, nil
		}
		for _, photo := range resp.GetPhotos() {
			id, err := event.ParseID(photo.GetPostId())
			if err != nil {
				fault(Paging, "page %d: %q is no post id", page, photo.GetPostId())
				continue
			}
			r.posts = append(r.posts, Post{ID: id, Author: photo.GetAuthorId(), Digest: DigestOf(photo)})
		}
		size := len(resp.GetPhotos())
		token = resp.GetNextPageToken()
		switch {
		case size > a.cfg.PageSize:
			fault(Paging, "page %d has %d posts, asked for were %d", page, size, a.cfg.PageSize)
		case resp.GetHasMore() && size < a.cfg.PageSize:
			fault(Paging, "page %d has %d posts of %d while there is more", page, size, a.cfg.PageSize)
		}
		switch {
		case resp.GetHasMore() != (token != ""):
			fault(Paging, "page %d: has_more is %v, next_page_token is %q", page, resp.GetHasMore(), token)
			r.cut = token == ""
		case page == maxPages && token != "":
			r.cut = true
			fault(Paging, "no end after %d pages", page)
		case a.cfg.Depth > 0 && len(r.posts) >= a.cfg.Depth && token != "":
			r.cut = true
		}
		if r.cut || token == "" {
			return r, nil
		}
	}
}
