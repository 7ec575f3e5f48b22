// Package feed keeps home and author feeds in Redis and serves them.
package feed
