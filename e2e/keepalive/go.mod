// A client of webhooks for the end-to-end tests: nothing but Go's own library.
module slicewise.io/e2e/keepalive

go 1.26.0
