package analytics

// Question is a query that analysts find ready.
type Question struct {
	// Name is a view of the database.
	Name string
	// About says in one line what it answers.
	About string
	// SQL asks it, with the columns and the limit that suit a terminal.
	SQL string
}

// Questions returns the ready questions: the views of schema/*.sql.
func Questions() []Question {
	return []Question{
		{"posts_daily", "What happened each day, by type, and by how many people.", "SELECT * FROM posts_daily LIMIT 50"},
		{"top_authors", "Who posts most, and who is followed and unfollowed.", "SELECT * FROM top_authors LIMIT 20"},
		{"follower_growth", "Followers gained, lost and held, per author and day.", "SELECT * FROM follower_growth ORDER BY day DESC, gained DESC, author_id LIMIT 20"},
		{"retention", "Who stays: people by the week of their first act, and in the weeks after.", "SELECT * FROM retention LIMIT 100"},
		{"feed_freshness", "How fast posts are in the feeds, by the size of the audience: p50 and p99.", "SELECT * FROM feed_freshness"},
		{"push_outcomes", "How pushes ended, by provider and reason.", "SELECT * FROM push_outcomes LIMIT 50"},
		{"poison_reasons", "What was put aside as poison, by service and reason.", "SELECT * FROM poison_reasons LIMIT 50"},
	}
}
