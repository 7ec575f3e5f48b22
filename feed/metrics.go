package feed

import (
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"activityfeed/internal/metric"
)

// metrics is what an operator sees of the feed; the middleware counts events and
// failures for all services alike.
type metrics struct {
	posts         prometheus.Counter
	deliveries    prometheus.Counter
	fanoutSeconds prometheus.Histogram
	visibleAfter  prometheus.Histogram
	carefulPushes prometheus.Counter
	trims         prometheus.Counter
	rebuilds      *prometheus.CounterVec
	pulls         prometheus.Counter
	hydrateMisses prometheus.Counter
	fronts        *prometheus.CounterVec
	staleEdges    prometheus.Counter
	turns         *prometheus.CounterVec
	large         *largeAuthors
	largePosts    prometheus.Counter
	mergedReads   prometheus.Counter
	mergedAuthors prometheus.Counter
	ignored       *prometheus.CounterVec
}

func newMetrics(reg prometheus.Registerer) *metrics {
	const prefix = "activityfeed_feed_"
	counter := func(name, help string) prometheus.Counter {
		return metric.Register(reg, prometheus.NewCounter(prometheus.CounterOpts{Name: prefix + name, Help: help}))
	}
	seconds := func(name, help string) prometheus.Histogram {
		return metric.Register(reg, prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: prefix + name, Help: help,
			Buckets: prometheus.ExponentialBuckets(0.0005, 2, 20), // 0.5 ms to 4 min
		}))
	}
	return &metrics{
		posts:         counter("posts_total", "Posts that were pushed to their author's followers."),
		deliveries:    counter("deliveries_total", "Stored home feeds that a post was pushed into."),
		fanoutSeconds: seconds("fanout_seconds", "Time from taking a post to having pushed it into every feed."),
		visibleAfter:  seconds("visible_seconds", "Time from accepting a post to having pushed it into every feed."),
		carefulPushes: counter("careful_pushes_total", "Pushes of late or repeated posts, which look for their place."),
		trims:         counter("trims_total", "Home feeds cut to their cap."),
		rebuilds: metric.Register(reg, prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: prefix + "rebuilds_total",
			Help: "Cold feeds built at a read, by outcome: built, dropped by follows again and again, or refused as too many others had to wait.",
		}, []string{"outcome"})),
		pulls:         counter("pulls_total", "Parts of home feeds read from the authors' lists: older than the list, or while it was built."),
		hydrateMisses: counter("hydrate_misses_total", "Ids in a feed without a body. Steady growth means that Redis lost keys."),
		fronts: metric.Register(reg, prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: prefix + "first_pages_total",
			Help: "First pages of home feeds that may be kept in memory, by where they came from: memory or redis.",
		}, []string{"from"})),
		staleEdges: counter("stale_edges_total", "Sides of follows, blocks and mutes that came after a newer fact about them."),
		turns: metric.Register(reg, prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: prefix + "large_author_turns_total",
			Help: "Authors whose posts are no longer pushed but merged at read, or pushed again, by which.",
		}, []string{"to"})),
		large: &largeAuthors{
			seen: map[string]bool{},
			number: metric.Register(reg, prometheus.NewGauge(prometheus.GaugeOpts{
				Name: prefix + "large_authors",
				Help: "Authors whose posts were left to be merged at read by this process since it started.",
			})),
		},
		largePosts:    counter("large_author_posts_total", "Posts that were not pushed, as their author has too many followers."),
		mergedReads:   counter("merged_reads_total", "Parts of stored home feeds that were merged with the lists of large authors."),
		mergedAuthors: counter("merged_authors_total", "Lists of large authors that these reads merged."),
		ignored: metric.Register(reg, prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: prefix + "ignored_total",
			Help: "Events that were acked without effect, by reason: unknown type, foreign delete.",
		}, []string{"reason"})),
	}
}

// merged counts a read that merges the lists of so many large authors.
func (m *metrics) merged(authors int) {
	if authors > 0 {
		m.mergedReads.Inc()
		m.mergedAuthors.Add(float64(authors))
	}
}

// largeAuthors tells apart the large authors that this process has met. There are
// few of them.
type largeAuthors struct {
	number prometheus.Gauge
	mu     sync.Mutex
	seen   map[string]bool
}

func (l *largeAuthors) add(author string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.seen[author] = true
	l.number.Set(float64(len(l.seen)))
}

func (l *largeAuthors) remove(author string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.seen, author)
	l.number.Set(float64(len(l.seen)))
}

// liveMetrics is what an operator sees of live feeds.
type liveMetrics struct {
	watchers prometheus.Gauge
	sent     prometheus.Counter
	late     prometheus.Counter
	lag      prometheus.Histogram
	cut      *prometheus.CounterVec
}

func newLiveMetrics(reg prometheus.Registerer) *liveMetrics {
	const prefix = "activityfeed_feed_live_"
	return &liveMetrics{
		watchers: metric.Register(reg, prometheus.NewGauge(prometheus.GaugeOpts{
			Name: prefix + "watchers", Help: "Open streams of home feeds in this process.",
		})),
		sent: metric.Register(reg, prometheus.NewCounter(prometheus.CounterOpts{
			Name: prefix + "posts_total", Help: "Posts that were sent on streams.",
		})),
		late: metric.Register(reg, prometheus.NewCounter(prometheus.CounterOpts{
			Name: prefix + "repeats_total", Help: "Posts that were not sent: the stream had sent them before, or they came minutes late.",
		})),
		lag: metric.Register(reg, prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: prefix + "seconds", Help: "Time from accepting a post to handing it to the streams.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 2, 18), // 0.5 ms to 1 min
		})),
		cut: metric.Register(reg, prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: prefix + "cut_total", Help: "Streams that were cut off, by reason: full (news piled up), stuck (the client did not read).",
		}, []string{"reason"})),
	}
}
