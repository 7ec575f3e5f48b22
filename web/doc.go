// Package web holds the pages for browsers, embedded in the binary.
//
// push/ makes a browser a device that is pushed to: index.html and app.js subscribe
// with the server's key (?key=...) and show what RegisterDevice wants to know; sw.js
// is the service worker that shows what comes, replaces and removes it by its tag,
// keeps the badge, and opens the post on a click. An app of one's own takes sw.js as
// it is.
package web
