package load

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"

	pb "activityfeed/proto/activityfeed/v1"
)

// The words of captions; any subject goes with any moment, place and remark.
var (
	subjects = []string{
		"Fog", "First light", "The old ferry", "A heron", "Market day", "Rain on the tracks", "My grandmother's loom", "The baker's window",
		"Two kites", "A borrowed bicycle", "The lighthouse", "Snow on the roofs", "Lemons", "The night train", "A very small dog", "The choir",
	}
	moments = []string{
		"just before dawn", "at noon", "after the storm", "on a slow Sunday", "in the last light", "between two showers", "at high tide", "",
	}
	places = []string{
		"over the harbour", "behind the station", "on the east side", "by the canal", "at the edge of the village", "below the pass", "in the courtyard", "",
	}
	remarks = []string{
		"Third try, worth it.", "No filter.", "Who knows this corner?", "Film, 400 ISO.", "Cold hands, good coffee.", "More tomorrow.", "I waited an hour for this.", "",
	}
	tags  = []string{"street", "nature", "film", "blackandwhite", "goldenhour", "travel", "home", "food", "birds", "architecture"}
	sizes = [][2]int32{{1080, 1080}, {1080, 1350}, {1920, 1080}, {2048, 1536}, {3024, 4032}, {4032, 3024}}
)

const (
	// severalPictures and mentioning are the shares of posts with more than one
	// picture, and with people named in the caption.
	severalPictures = 0.15
	mentioning      = 0.10
	maxPictures     = 5
	maxMentions     = 3
)

// photo returns post n of a plan. Whatever worker asks, and however often, it is
// the same.
func photo(cfg Config, author, n uint32) *pb.PostPhotoRequest {
	rng := source(cfg.Seed, streamContent+uint64(n)<<8)
	users := cfg.Graph.Users
	req := &pb.PostPhotoRequest{
		UserId:         users[author],
		IdempotencyKey: fmt.Sprintf("load/%d/%d", cfg.Seed, n),
	}
	pictures := 1
	if rng.Float64() < severalPictures {
		pictures = 2 + rng.IntN(maxPictures-1)
	}
	subject := pick(rng, subjects)
	for i := range pictures {
		size := pick(rng, sizes)
		req.Media = append(req.Media, &pb.Media{
			Url:      fmt.Sprintf("https://photos.example/load/%d/%d-%d.jpg", cfg.Seed, n, i+1),
			Width:    size[0],
			Height:   size[1],
			Blurhash: blurhash(rng),
			AltText:  fmt.Sprintf("%s, picture %d of %d", subject, i+1, pictures),
		})
	}
	if rng.Float64() < mentioning && len(users) > 1 {
		for range 1 + rng.IntN(maxMentions) {
			if u := users[rng.IntN(len(users))]; u != req.GetUserId() && !slices.Contains(req.GetMentions(), u) {
				req.Mentions = append(req.Mentions, u)
			}
		}
	}
	req.Caption = caption(rng, subject, req.GetMentions())
	return req
}

func caption(rng *rand.Rand, subject string, mentions []string) string {
	words := []string{subject}
	for _, part := range [][]string{moments, places} {
		if w := pick(rng, part); w != "" {
			words = append(words, w)
		}
	}
	words[len(words)-1] += "."
	if w := pick(rng, remarks); w != "" {
		words = append(words, w)
	}
	for _, u := range mentions {
		words = append(words, "@"+u)
	}
	for range rng.IntN(3) {
		words = append(words, "#"+pick(rng, tags))
	}
	return strings.Join(words, " ")
}

// blurhash returns a random but valid BlurHash of 4 by 3 components
// (https://github.com/woltapp/blurhash, Algorithm.md): the number of components,
// the largest value, the average colour and 11 more colours, in base 83.
func blurhash(rng *rand.Rand) string {
	const x, y = 4, 3
	var s strings.Builder
	base83(&s, (x-1)+(y-1)*9, 1)
	base83(&s, rng.IntN(83), 1)
	base83(&s, rng.IntN(1<<24), 4)
	for range x*y - 1 {
		base83(&s, rng.IntN(19*19*19), 2)
	}
	return s.String()
}

func base83(s *strings.Builder, value, digits int) {
	const alphabet = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz#$%*+,-.:;=?@[]^_{|}~"
	divisor := 1
	for range digits - 1 {
		divisor *= 83
	}
	for ; divisor > 0; divisor /= 83 {
		s.WriteByte(alphabet[value/divisor%83])
	}
}

func pick[T any](rng *rand.Rand, from []T) T { return from[rng.IntN(len(from))] }
