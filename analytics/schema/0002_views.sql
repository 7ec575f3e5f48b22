-- Ready questions. All of them count distinct ids, so they are exact whatever
-- was inserted twice and not merged yet: no reader needs FINAL. On a cluster the
-- ids are merged over the shards.

-- How much happened each day, by type.
CREATE VIEW IF NOT EXISTS {{.Table "posts_daily"}} {{.OnCluster}} AS
SELECT
    toDate(event_time) AS day,
    event_type,
    uniqExact(event_id) AS events,
    uniqExact(actor_id) AS actors
FROM {{.Table "events"}}
GROUP BY day, event_type
ORDER BY day DESC, event_type;

-- Who posts most. Deletes count posts, not commands: a post may be deleted twice.
-- follows and unfollows count events, since a user may follow the same author again.
CREATE VIEW IF NOT EXISTS {{.Table "top_authors"}} {{.OnCluster}} AS
SELECT
    author_id,
    uniqExactIf(event_id, event_type = 'PhotoPosted') AS posts,
    uniqExactIf(post_id, event_type = 'PhotoDeleted') AS deleted,
    uniqExactIf(event_id, event_type = 'UserFollowed') AS follows,
    uniqExactIf(event_id, event_type = 'UserUnfollowed') AS unfollows,
    minIf(event_time, event_type = 'PhotoPosted') AS first_post,
    maxIf(event_time, event_type = 'PhotoPosted') AS last_post
FROM {{.Table "events"}}
WHERE event_type IN ('PhotoPosted', 'PhotoDeleted', 'UserFollowed', 'UserUnfollowed')
GROUP BY author_id
HAVING posts > 0
ORDER BY posts DESC, author_id;
