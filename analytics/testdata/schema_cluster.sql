-- Every event of the log, one row each.
--
-- The row of an event is a function of the event alone (inserted_at aside, which
-- is no part of the key), so an event that is inserted twice collapses into one
-- row when parts merge. Until then a plain count() sees it twice: the views
-- count ids instead, and `activityfeed sql` reads with FINAL.
--
-- ORDER BY: people ask for a kind of event, in some days, of one author. It ends
-- in event_id, the identity of a row. event_time is not in it, because the id
-- already sorts by time.
CREATE TABLE IF NOT EXISTS db.events_local ON CLUSTER 'main'
(
    event_id           UInt64 COMMENT 'Snowflake: unique, sorts by time' CODEC(Delta(8), LZ4),
    event_type         LowCardinality(String) COMMENT 'PhotoPosted, UserFollowed, ...',
    event_time         DateTime64(3, 'UTC') COMMENT 'When the command was accepted' CODEC(Delta(8), LZ4),
    author_id          String COMMENT 'Whose followers care: the author of the photo, the followee; else the actor',
    actor_id           String COMMENT 'Who acted',
    target_id          String COMMENT 'To whom: the followee, who is blocked or muted; empty for photos',
    post_id            UInt64 COMMENT 'The post, 0 if the event is about none',
    media_count        UInt8 COMMENT 'Pictures of the post',
    caption_length     UInt16 COMMENT 'Characters of the caption; its text is not kept here',
    mentions           Array(String) COMMENT 'Users named in the caption',
    notification_level LowCardinality(String) COMMENT 'Of a follow: default, none, all; else empty',
    source             LowCardinality(String) COMMENT 'The process that accepted the command',
    log_topic          LowCardinality(String) COMMENT 'Where the row comes from, to trace it',
    log_partition      Int32,
    log_offset         Int64,
    inserted_at        DateTime64(3, 'UTC') DEFAULT now64(3) COMMENT 'When the row came in',

    -- "What did ann do?" and "what happened to this post?" are not in key order.
    INDEX by_actor actor_id TYPE bloom_filter(0.01) GRANULARITY 4,
    INDEX by_post post_id TYPE bloom_filter(0.01) GRANULARITY 4
)
ENGINE = ReplicatedReplacingMergeTree
PARTITION BY toYYYYMM(event_time)
PRIMARY KEY (event_type, toDate(event_time), author_id)
ORDER BY (event_type, toDate(event_time), author_id, event_id)
SETTINGS replicated_deduplication_window = 10000;

CREATE TABLE IF NOT EXISTS db.events ON CLUSTER 'main' AS db.events_local ENGINE = Distributed('main', 'db', 'events_local', cityHash64(author_id));

-- Ready questions. All of them count distinct ids, so they are exact whatever
-- was inserted twice and not merged yet: no reader needs FINAL. On a cluster the
-- ids are merged over the shards.

-- How much happened each day, by type.
CREATE VIEW IF NOT EXISTS db.posts_daily ON CLUSTER 'main' AS
SELECT
    toDate(event_time) AS day,
    event_type,
    uniqExact(event_id) AS events,
    uniqExact(actor_id) AS actors
FROM db.events
GROUP BY day, event_type
ORDER BY day DESC, event_type;

-- Who posts most. Deletes count posts, not commands: a post may be deleted twice.
-- follows and unfollows count events, since a user may follow the same author again.
CREATE VIEW IF NOT EXISTS db.top_authors ON CLUSTER 'main' AS
SELECT
    author_id,
    uniqExactIf(event_id, event_type = 'PhotoPosted') AS posts,
    uniqExactIf(post_id, event_type = 'PhotoDeleted') AS deleted,
    uniqExactIf(event_id, event_type = 'UserFollowed') AS follows,
    uniqExactIf(event_id, event_type = 'UserUnfollowed') AS unfollows,
    minIf(event_time, event_type = 'PhotoPosted') AS first_post,
    maxIf(event_time, event_type = 'PhotoPosted') AS last_post
FROM db.events
WHERE event_type IN ('PhotoPosted', 'PhotoDeleted', 'UserFollowed', 'UserUnfollowed')
GROUP BY author_id
HAVING posts > 0
ORDER BY posts DESC, author_id;
