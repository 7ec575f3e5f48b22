package feed

import (
	"context"
	"time"

	"activityfeed/internal/event"
	"activityfeed/internal/fault"
	pb "activityfeed/proto/activityfeed/v1"
)

// Page sizes of the API, see feed.proto.
const (
	usualPage = 20
	mostPage  = 100
)

// timeline is what the service needs of the store.
type timeline interface {
	// home and older return ids below a cursor, newest first, each once: want at
	// most, and at least one unless end, which says that there are no more. first is what
	// recall returned for the same request, or nil.
	home(ctx context.Context, user string, cursor event.ID, want int, first *reading) (ids []event.ID, end bool, err error)
	older(ctx context.Context, author string, cursor event.ID, want int) (ids []event.ID, end bool, err error)
	// posts returns those of the posts that were not deleted, in their order; all says
	// that none is missing otherwise. The ids must have been read by home or older for
	// the same request.
	posts(ctx context.Context, ids []event.ID) (posts []*post, all bool, err error)
	// readPosts does so for any ids.
	readPosts(ctx context.Context, ids []event.ID) (posts []*post, all bool, err error)
	// inHome returns, in place, those of the posts that stand in the home feed of the
	// user, which was read by home for the same request.
	inHome(ctx context.Context, user string, posts []*post) ([]*post, error)
	// recall returns the first page of a home feed as it was read before, if it is so
	// yet; else what home and keepFront take of one that is read now.
	recall(ctx context.Context, user string, want int) (*shownPage, *reading)
	// keepFront keeps a page for the next reader, of which no post was missing.
	keepFront(user string, first *reading, page *shownPage)
	// viewOf asks what user may see of the authors.
	viewOf(ctx context.Context, user string, authors []string) (view, error)
}

// feedService is the read side.
type feedService struct {
	pb.UnimplementedFeedServiceServer

	cfg       Config
	store     timeline
	positions positions
	// marks is nil where there is no write side.
	marks marks
	hub   *hub
	now   func() time.Time
}

// GetHomeFeed reads a page of what the followees of a user posted.
func (s *feedService) GetHomeFeed(ctx context.Context, req *pb.GetHomeFeedRequest) (*pb.GetHomeFeedResponse, error) {
	resp, err := s.homeFeed(ctx, req)
	if err != nil {
		return nil, err
	}
	return resp.message()
}

// homeFeed returns the answer to a GetHomeFeed.
func (s *feedService) homeFeed(ctx context.Context, req *pb.GetHomeFeedRequest) (homeFeed, error) {
	user := req.GetUserId()
	page, err := s.homePage(ctx, req)
	if err != nil {
		return homeFeed{}, err
	}
	rest := &pb.GetHomeFeedResponse{NextPageToken: page.next, HasMore: page.more}
	if req.GetPageToken() == "" {
		rest.WatchCursor = placeAfter(page.ids, page.more, s.now()).token(cursorOf(user))
	}
	if req.GetWithUnseen() {
		if rest.Unseen, err = s.unseen(ctx, user); err != nil {
			return homeFeed{}, err
		}
	}
	return homeFeed{page.photos, rest}, nil
}

// homePage returns a page of a home feed, out of memory if it is the first and nothing
// has changed since it was read.
func (s *feedService) homePage(ctx context.Context, req *pb.GetHomeFeedRequest) (*shownPage, error) {
	user := req.GetUserId()
	size, err := pageSize(req.GetPageSize(), usualPage, mostPage)
	if err != nil {
		return nil, err
	}
	var first *reading
	if req.GetPageToken() == "" {
		var kept *shownPage
		if kept, first = s.store.recall(ctx, user, size); kept != nil {
			return kept, nil
		}
	}
	found, err := s.page(ctx, pageRequest{
		list: tokenList{kind: "home", user: user}, size: size, token: req.GetPageToken(),
		source: func(cursor event.ID, want int) ([]event.ID, bool, error) {
			return s.store.home(ctx, user, cursor, want, first)
		},
		visible: func(posts []*post) ([]*post, error) {
			return s.store.inHome(ctx, user, posts)
		},
	})
	if err != nil {
		return nil, err
	}
	shown := found.shown()
	if found.all {
		s.store.keepFront(user, first, shown)
	}
	return shown, nil
}

// GetAuthorFeed reads a page of one author's posts; it is empty where one of the
// two blocks the other.
func (s *feedService) GetAuthorFeed(ctx context.Context, req *pb.GetAuthorFeedRequest) (*pb.GetAuthorFeedResponse, error) {
	user, author := req.GetUserId(), req.GetAuthorId()
	size, err := pageSize(req.GetPageSize(), usualPage, mostPage)
	if err != nil {
		return nil, err
	}
	hidden, err := s.hidden(ctx, user, author)
	if err != nil {
		return nil, err
	}
	page, err := s.page(ctx, pageRequest{
		list: tokenList{kind: "author", user: user, of: author}, size: size, token: req.GetPageToken(),
		source: func(cursor event.ID, want int) ([]event.ID, bool, error) {
			if hidden {
				return nil, true, nil
			}
			return s.store.older(ctx, author, cursor, want)
		},
		visible: func(posts []*post) ([]*post, error) { return posts, nil },
	})
	if err != nil {
		return nil, err
	}
	photos := make([]*pb.Photo, len(page.posts))
	for i, p := range page.posts {
		photos[i] = p.photo
	}
	return &pb.GetAuthorFeedResponse{Photos: photos, NextPageToken: page.next, HasMore: page.more}, nil
}

// GetPost reads one post.
func (s *feedService) GetPost(ctx context.Context, req *pb.GetPostRequest) (*pb.GetPostResponse, error) {
	missing := fault.Missing("post %s does not exist", req.GetPostId())
	id, err := event.ParseID(req.GetPostId())
	if err != nil {
		return nil, fault.Invalid("post_id", "is not the id of a post")
	}
	posts, _, err := s.store.readPosts(ctx, []event.ID{id})
	if err != nil {
		return nil, err
	}
	if len(posts) == 0 {
		return nil, missing
	}
	hidden, err := s.hidden(ctx, req.GetUserId(), posts[0].author)
	if err != nil {
		return nil, err
	}
	if hidden {
		return nil, missing
	}
	return &pb.GetPostResponse{Photo: posts[0].photo}, nil
}

// hidden says whether a block stands between the two.
func (s *feedService) hidden(ctx context.Context, user, author string) (bool, error) {
	if user == author {
		return false, nil
	}
	v, err := s.store.viewOf(ctx, user, []string{author})
	return v.blocked[author], err
}

// pageRequest says what a page is made of.
type pageRequest struct {
	list   tokenList
	size   int
	token  string
	source func(cursor event.ID, want int) (ids []event.ID, end bool, err error)
	// visible leaves out what the reader must not see.
	visible func([]*post) ([]*post, error)
}

type page struct {
	posts []*post
	next  string
	more  bool
	// all says that what was left out of what the source had is deleted or hidden.
	all bool
}

// page fills a page: it reads on until it has one post more than asked for, which
// tells that there are more, or until the source ends.
func (s *feedService) page(ctx context.Context, req pageRequest) (page, error) {
	cursor, err := req.list.cursor(req.token)
	if err != nil {
		return page{}, err
	}
	var found []*post
	p := page{all: true}
	for end := false; !end && len(found) <= req.size; {
		var ids []event.ID
		ids, end, err = req.source(cursor, req.size+1-len(found))
		if err != nil {
			return page{}, err
		}
		if len(ids) == 0 {
			break
		}
		cursor = ids[len(ids)-1]
		posts, all, err := s.store.posts(ctx, ids)
		if err != nil {
			return page{}, err
		}
		p.all = p.all && all
		posts, err = req.visible(posts)
		if err != nil {
			return page{}, err
		}
		if found == nil {
			found = posts
		} else {
			found = append(found, posts...)
		}
	}
	p.posts, p.more = found, len(found) > req.size
	if p.more {
		p.posts = found[:req.size]
		p.next = req.list.cursorToken(found[req.size-1].id)
	}
	return p, nil
}

// authorsOf returns the authors of posts, each once, without the reader.
func authorsOf(posts []*post, reader string) []string {
	seen := map[string]bool{reader: true}
	var authors []string
	for _, p := range posts {
		if !seen[p.author] {
			seen[p.author] = true
			authors = append(authors, p.author)
		}
	}
	return authors
}

// keep returns the posts that pass, in place.
func keep(posts []*post, pass func(*post) bool) []*post {
	kept := posts[:0]
	for _, p := range posts {
		if pass(p) {
			kept = append(kept, p)
		}
	}
	return kept
}
