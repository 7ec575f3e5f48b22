-- What it takes to make the feeds anew from here (`activityfeed rebuild --from
-- clickhouse`) when the log has forgotten its beginning: the posts as they were
-- accepted, and which log a place is in. All other facts are whole in the columns that
-- there are. Rows from before this file have neither; `rebuild --analytics` fills them
-- in as far as the log goes back.
--
-- MATERIALIZED keeps both out of SELECT *: the sink writes them nevertheless
-- (insert_allow_materialized_columns), and who wants them names them.
ALTER TABLE {{.Local "events"}} {{.OnCluster}} ADD COLUMN IF NOT EXISTS log_id LowCardinality(String) MATERIALIZED '' COMMENT 'Id of the topic: a log that was made anew begins again at offset 0';

ALTER TABLE {{.Local "events"}} {{.OnCluster}} ADD COLUMN IF NOT EXISTS original String MATERIALIZED '' COMMENT 'Of a post: the fact as the log has it, activityfeed.v1.PhotoPosted' CODEC(ZSTD(1));

ALTER TABLE {{.Local "events"}} {{.OnCluster}} MODIFY COLUMN caption_length COMMENT 'Characters of the caption';
{{if .Cluster}}
ALTER TABLE {{.Table "events"}} {{.OnCluster}} ADD COLUMN IF NOT EXISTS log_id LowCardinality(String) MATERIALIZED '' COMMENT 'Id of the topic: a log that was made anew begins again at offset 0';

ALTER TABLE {{.Table "events"}} {{.OnCluster}} ADD COLUMN IF NOT EXISTS original String MATERIALIZED '' COMMENT 'Of a post: the fact as the log has it, activityfeed.v1.PhotoPosted';

ALTER TABLE {{.Table "events"}} {{.OnCluster}} MODIFY COLUMN caption_length COMMENT 'Characters of the caption';
{{end}}
