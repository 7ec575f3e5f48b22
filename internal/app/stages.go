// Package app holds what every role of the binary needs around its work: the
// order in which parts stop, the logger, and the operator's port.
package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"
)

// Part is a long-running piece of the program. Run returns nil after it was
// asked to stop, by the end of its context, and has stopped.
type Part struct {
	Name string
	Run  func(ctx context.Context) error
}

// ErrFinished is what a part returns that has done its work and ends the program.
var ErrFinished = errors.New("finished")

// RunStages runs the parts of all stages at once. When ctx ends, or any part
// returns, it stops the stages one after the other in the given order, so that
// a part can rely on the later stages until its own last moment: commands are
// answered before the log's publisher goes, consumers drain before the engines do.
//
// It returns when every part has stopped, with what the parts returned. A part
// that returned early is named as one that should not have, unless it returned
// ErrFinished.
func RunStages(ctx context.Context, log *slog.Logger, stages ...[]Part) error {
	// The parts' contexts do not end with ctx: their turn does it.
	base := context.WithoutCancel(ctx)
	var (
		mu       sync.Mutex
		failures []error
		stopping = make(chan struct{})
		stopOnce sync.Once
	)
	running := make([]*runningStage, len(stages))
	for i, parts := range stages {
		stageCtx, cancel := context.WithCancel(base)
		stage := &runningStage{cancel: cancel}
		running[i] = stage
		for _, part := range parts {
			stage.parts.Go(func() {
				err := part.Run(stageCtx)
				if err == nil && stageCtx.Err() == nil {
					err = errors.New("ended on its own")
				}
				if errors.Is(err, ErrFinished) {
					err = nil
				} else if err != nil && stageCtx.Err() == nil {
					log.Error("a part ended, stopping the rest", "part", part.Name, "err", err)
				}
				if err != nil {
					mu.Lock()
					failures = append(failures, fmt.Errorf("%s: %w", part.Name, err))
					mu.Unlock()
				}
				stopOnce.Do(func() { close(stopping) })
			})
		}
	}

	select {
	case <-ctx.Done():
	case <-stopping:
	}
	log.Info("stopping")
	for i, stage := range running {
		start := time.Now()
		stage.cancel()
		stage.parts.Wait()
		log.Debug("stage stopped", "stage", i, "took", time.Since(start))
	}
	return errors.Join(failures...)
}

type runningStage struct {
	cancel context.CancelFunc
	parts  sync.WaitGroup
}
