package graph

import (
	"context"
	"errors"
	"log/slog"

	"github.com/ThreeDotsLabs/watermill/message"
	"google.golang.org/grpc"

	"activityfeed/internal/event"
	pb "activityfeed/proto/activityfeed/v1"
)

// publisher writes facts to the log; it returns when the log has them (acks=all).
type publisher interface {
	PublishContext(ctx context.Context, topic string, msgs ...*message.Message) error
}

// follows reads the projection of the follow facts. A page may be shorter than
// size while more exist; next is empty at the end. A token that it did not make is
// a fault of kind InvalidArgument.
type follows interface {
	Followers(ctx context.Context, user string, size int, token string) (ids []string, next string, err error)
	Following(ctx context.Context, user string, size int, token string) (ids []string, next string, err error)
}

// Deps is what the write side of the graph works with. All but Follows are required.
type Deps struct {
	Log       *slog.Logger
	Publisher publisher
	// Follows is where lists are read. Nil: this process has no store for them, and
	// they answer UNAVAILABLE.
	Follows follows
	// IDs makes the ids of events. No two processes may share its node.
	IDs *event.IDs
	// Source names this process in the events that it writes.
	Source string
}

// Graph is the write side of who follows, blocks and mutes whom.
type Graph struct {
	cfg  Config
	deps Deps
}

// New returns a Graph.
func New(cfg Config, deps Deps) (*Graph, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if deps.Log == nil || deps.Publisher == nil || deps.IDs == nil || deps.Source == "" {
		return nil, errors.New("graph: Log, Publisher, IDs and Source are required")
	}
	if deps.Follows == nil {
		deps.Log.Info("lists of followers are not served: this process has no store for them")
	}
	return &Graph{cfg: cfg.withDefaults(), deps: deps}, nil
}

// Register adds GraphService to a server.
func (g *Graph) Register(r grpc.ServiceRegistrar) {
	pb.RegisterGraphServiceServer(r, service{graph: g})
}
