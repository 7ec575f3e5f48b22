package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"activityfeed/internal/kafka"
	"activityfeed/internal/poison"
)

// poisonCmd looks after the events that a service gave up.
type poisonCmd struct {
	List   poisonListCmd   `cmd:"" help:"List what a service could not process."`
	Show   poisonShowCmd   `cmd:"" help:"Show one event with all that is known of its failure."`
	Replay poisonReplayCmd `cmd:"" help:"Send events back to their service, and to it alone."`
	Drop   poisonDropCmd   `cmd:"" help:"Give events up. They come back where the service reads the log anew, as after the loss of Redis, and fail again."`
}

// poisonSource names a service and finds its server.
type poisonSource struct {
	Target  target `embed:""`
	Service string `arg:"" enum:"feed,analytics,notify" help:"The service: feed, analytics or notify."`
}

// open returns the tool, and what closes it.
func (s poisonSource) open(con *console) (*poison.Tool, func(), error) {
	e, err := s.Target.resolve()
	if err != nil {
		return nil, nil, err
	}
	publisher, err := kafka.NewPublisher(kafka.PublisherConfig{Brokers: e.Kafka, ClientID: "activityfeed-poison"}, con.log)
	if err != nil {
		return nil, nil, err
	}
	tail := func(topic string) poison.Tail {
		return kafka.NewTail(kafka.TailConfig{Brokers: e.Kafka, Topic: topic}, con.log)
	}
	done := func() { publisher.Close() }
	return poison.New(poison.Config{}, tail, publisher, con.log), done, nil
}

type poisonListCmd struct {
	Source poisonSource `embed:""`
}

// Run prints the list.
func (c *poisonListCmd) Run(ctx context.Context, con *console) error {
	tool, done, err := c.Source.open(con)
	if err != nil {
		return err
	}
	defer done()
	entries, err := tool.List(ctx, c.Source.Service)
	if err != nil {
		return err
	}
	poison.PrintList(con.out, c.Source.Service, entries)
	return nil
}

type poisonShowCmd struct {
	Source poisonSource `embed:""`
	ID     string       `arg:"" help:"Id of the event, as the list has it."`
}

// Run prints one event.
func (c *poisonShowCmd) Run(ctx context.Context, con *console) error {
	tool, done, err := c.Source.open(con)
	if err != nil {
		return err
	}
	defer done()
	entry, err := tool.Show(ctx, c.Source.Service, c.ID)
	if err != nil {
		return err
	}
	return poison.PrintEntry(con.out, entry)
}

// poisonChoice says which events are meant.
type poisonChoice struct {
	IDs    []string      `arg:"" optional:"" name:"id" help:"Ids of the events."`
	All    bool          `help:"All events of the service."`
	Reason string        `help:"Events of this reason: undecodable, invalid, panic, exhausted." placeholder:"REASON"`
	Type   string        `help:"Events of this type." placeholder:"PhotoPosted"`
	Older  time.Duration `help:"Events that failed first longer ago than this." placeholder:"1h"`
	DryRun bool          `help:"Only say what would be done."`
}

// Validate refuses an age that would choose everything.
func (c *poisonChoice) Validate() error {
	if c.Older < 0 {
		return fmt.Errorf("--older: %s is negative", c.Older)
	}
	return nil
}

func (c *poisonChoice) filter() poison.Filter {
	f := poison.Filter{All: c.All, IDs: c.IDs, Reason: c.Reason, Type: c.Type}
	if c.Older > 0 {
		f.Before = time.Now().Add(-c.Older)
	}
	return f
}

type poisonReplayCmd struct {
	Source     poisonSource `embed:""`
	Choice     poisonChoice `embed:""`
	Rate       float64      `default:"100" help:"Events a second at most; 0 means no limit."`
	MaxReplays int          `default:"5" help:"Refuse events that were replayed this often."`
}

// Validate refuses numbers below zero.
func (c *poisonReplayCmd) Validate() error {
	var errs []error
	if c.Rate < 0 {
		errs = append(errs, fmt.Errorf("--rate: %v is negative; 0 means no limit", c.Rate))
	}
	if c.MaxReplays < 1 {
		errs = append(errs, fmt.Errorf("--max-replays: %d is less than 1", c.MaxReplays))
	}
	return errors.Join(errs...)
}

// Run replays and says what became of it.
func (c *poisonReplayCmd) Run(ctx context.Context, con *console) error {
	tool, done, err := c.Source.open(con)
	if err != nil {
		return err
	}
	defer done()
	result, err := tool.Replay(ctx, c.Source.Service, c.Choice.filter(),
		poison.Options{DryRun: c.Choice.DryRun, Rate: c.Rate, MaxReplays: c.MaxReplays})
	if err != nil && len(result.Done) == 0 {
		return err
	}
	poison.PrintResult(con.out, "replayed", result)
	return err
}

type poisonDropCmd struct {
	Source poisonSource `embed:""`
	Choice poisonChoice `embed:""`
}

// Run drops and says what is gone.
func (c *poisonDropCmd) Run(ctx context.Context, con *console) error {
	tool, done, err := c.Source.open(con)
	if err != nil {
		return err
	}
	defer done()
	result, err := tool.Drop(ctx, c.Source.Service, c.Choice.filter(), poison.Options{DryRun: c.Choice.DryRun})
	if err != nil && len(result.Done) == 0 {
		return err
	}
	poison.PrintResult(con.out, "dropped", result)
	return err
}
