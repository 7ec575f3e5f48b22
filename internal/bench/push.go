package bench

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"activityfeed/internal/testenv/pushservice"
	"activityfeed/notify/push"
	"activityfeed/notify/push/webpush"
)

const (
	// PushTarget is the part of a bare client's pushes that ours must reach, see the
	// targets in ARCHITECTURE.md.
	PushTarget = 0.7

	pushDevices = 2_000
	pushRounds  = 5
	// pushWorkers is how many pushes are under way.
	pushWorkers = 64
	// pushText is the length to which our sender pads what pushMessage says.
	pushText = 256
)

// PushConfig sets up [Push].
type PushConfig struct {
	// Pushes is how many messages each side sends in all rounds together.
	Pushes int
	// KeyFile is where the VAPID key is made.
	KeyFile string
}

// Push measures how many Web Push messages a second go to a push service on this
// machine, which reads them unseen: through our sender with all its checks, and by
// a bare HTTP/2 client that encrypts a ready text of the same length with the same
// code, in turns. It writes a table to w.
func Push(ctx context.Context, w io.Writer, cfg PushConfig, log *slog.Logger) (Result, error) {
	service, err := pushservice.StartWebPush(pushservice.Options{Blind: true})
	if err != nil {
		return Result{}, err
	}
	defer service.Close()
	sender, err := webpush.New(webpush.Config{
		Subject: "mailto:bench@example.com", KeyFile: cfg.KeyFile, PrivateOrigins: []string{service.URL()},
	}, webpush.Deps{Log: log, RootCAs: service.RootCAs()})
	if err != nil {
		return Result{}, err
	}
	defer sender.Close()
	devices, err := pushTargets(service)
	if err != nil {
		return Result{}, err
	}
	judge := push.NewJudge(sender, nil)
	client := bareClient(service)
	defer client.CloseIdleConnections()
	text := bytes.Repeat([]byte("x"), pushText)

	var ours, bare []float64
	each := max(cfg.Pushes/pushRounds, pushWorkers)
	for round := range pushRounds {
		log.Info("bench push: measure", "round", round+1, "of", pushRounds)
		rate, err := pushRate(ctx, each, func(ctx context.Context, n int) error {
			out := judge.Send(ctx, devices[n%len(devices)], pushMessage(n))
			if out.Action != push.OK {
				return fmt.Errorf("push %d: %v: %s %s", n, out.Action, out.Reason, out.Code)
			}
			return nil
		})
		if err != nil {
			return Result{}, fmt.Errorf("bench push: ours: %w", err)
		}
		ours = append(ours, rate)
		rate, err = pushRate(ctx, each, func(ctx context.Context, n int) error {
			return barePush(ctx, client, devices[n%len(devices)], text)
		})
		if err != nil {
			return Result{}, fmt.Errorf("bench push: bare client: %w", err)
		}
		bare = append(bare, rate)
	}
	writeTable(w, fmt.Sprintf("%d devices, %d pushes under way, medians of %d rounds", pushDevices, pushWorkers, pushRounds),
		"pushes/s", []row{
			{"activityfeed", median(ours), "message to JSON, checks, VAPID, outcome"},
			{"bare HTTP/2 client", median(bare), "a ready text, the same encryption"},
		})
	return Result{Name: "push", Ratio: medianRatio(ours, bare), Target: PushTarget}, nil
}

func pushTargets(service *pushservice.WebPush) ([]push.Target, error) {
	devices := make([]push.Target, pushDevices)
	for i := range devices {
		sub, err := service.Subscribe()
		if err != nil {
			return nil, err
		}
		devices[i] = push.Target{Provider: push.WebPush, Endpoint: sub.Endpoint, P256dh: sub.P256dh, Auth: sub.Auth}
	}
	return devices, nil
}

func pushMessage(n int) push.Message {
	id := strconv.Itoa(1_000_000 + n)
	return push.Message{
		ID: id, Title: "ann posted a photo", Body: "Sunset over the harbour, taken from the old pier",
		URL: "https://photos.example.com/p/" + id, CollapseKey: "posts of ann " + id, Badge: 3,
		Data: map[string]string{"post_id": id},
	}
}

func bareClient(service *pushservice.WebPush) *http.Client {
	return &http.Client{Transport: &http.Transport{
		TLSClientConfig:   &tls.Config{RootCAs: service.RootCAs(), MinVersion: tls.VersionTLS12},
		ForceAttemptHTTP2: true,
	}}
}

// authorization is as long as a VAPID header.
var authorization = "vapid t=" + base64.RawURLEncoding.EncodeToString(make([]byte, 180)) + ", k=" + base64.RawURLEncoding.EncodeToString(make([]byte, 65))

func barePush(ctx context.Context, client *http.Client, to push.Target, text []byte) error {
	body, err := webpush.Encrypt(text, to.P256dh, to.Auth, 0)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, to.Endpoint, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", authorization)
	req.Header.Set("Content-Encoding", "aes128gcm")
	req.Header.Set("Ttl", "86400")
	req.Header.Set("Topic", rand.Text())
	req.Header.Set("Urgency", "normal")
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusCreated {
		return fmt.Errorf("status %d", resp.StatusCode)
	}
	_, err = io.Copy(io.Discard, resp.Body)
	return err
}

// pushRate runs send n times, pushWorkers at a time, and returns how many a second
// that was. Connections are made before.
func pushRate(ctx context.Context, n int, send func(context.Context, int) error) (float64, error) {
	for i := range pushWorkers {
		if err := send(ctx, i); err != nil {
			return 0, err
		}
	}
	var next atomic.Int64
	group, ctx := errgroup.WithContext(ctx)
	start := time.Now()
	for range pushWorkers {
		group.Go(func() error {
			for i := next.Add(1); i <= int64(n); i = next.Add(1) {
				if err := send(ctx, int(i)); err != nil {
					return err
				}
			}
			return nil
		})
	}
	err := group.Wait()
	return float64(n) / time.Since(start).Seconds(), err
}
