package main

import (
	"fmt"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"

	"activityfeed/internal/event"
	"activityfeed/internal/rebuild"
	pb "activityfeed/proto/activityfeed/v1"
)

// askedUsers are the users that a rebuild is about, and which of them no fact has named
// so far: an id that was mistyped would look like one that was made anew.
type askedUsers struct {
	users   []string // none: all
	unnamed map[string]bool
}

func newAskedUsers(users []string) *askedUsers {
	a := &askedUsers{users: users, unnamed: make(map[string]bool, len(users))}
	for _, user := range users {
		a.unnamed[user] = true
	}
	return a
}

func (a *askedUsers) note(e event.Event) {
	if len(a.unnamed) == 0 {
		return
	}
	for _, user := range usersOf(e.Data) {
		delete(a.unnamed, user)
	}
}

// unknown is an error that names those of whom the log has nothing, or nil.
func (a *askedUsers) unknown() error {
	var names []string
	for _, user := range a.users {
		if a.unnamed[user] {
			names = append(names, user)
		}
	}
	if len(names) == 0 {
		return nil
	}
	return fmt.Errorf("--users: the log has nothing of %s", strings.Join(slices.Compact(names), ", "))
}

// usersOf returns the users that a fact names.
func usersOf(data proto.Message) []string {
	var users []string
	if d, ok := data.(interface{ GetPhoto() *pb.Photo }); ok {
		users = append(append(users, d.GetPhoto().GetAuthorId()), d.GetPhoto().GetMentions()...)
	}
	if d, ok := data.(interface{ GetAuthorId() string }); ok {
		users = append(users, d.GetAuthorId())
	}
	if d, ok := data.(interface{ GetUserId() string }); ok {
		users = append(users, d.GetUserId())
	}
	if d, ok := data.(interface {
		GetFollowerId() string
		GetFolloweeId() string
	}); ok {
		users = append(users, d.GetFollowerId(), d.GetFolloweeId())
	}
	if d, ok := data.(interface {
		GetActorId() string
		GetTargetId() string
	}); ok {
		users = append(users, d.GetActorId(), d.GetTargetId())
	}
	return users
}

// askedFeeds and askedInboxes note whom the facts name on their way.
type askedFeeds struct {
	rebuild.Projection

	asked *askedUsers
}

// Fold gives a fact on.
func (f askedFeeds) Fold(e event.Event) error {
	f.asked.note(e)
	return f.Projection.Fold(e)
}

type askedInboxes struct {
	rebuild.Inboxes

	asked *askedUsers
}

// Account gives a fact on.
func (i askedInboxes) Account(e event.Event) error {
	i.asked.note(e)
	return i.Inboxes.Account(e)
}
