// Package ext stands in for Traefik's extension points. They are a nested module of Traefik's repository, which its
// module archive leaves out; upstream's types are empty too.
package ext

// HTTP adds nothing to the dynamic HTTP configuration.
type HTTP struct{}

// Router adds nothing to a router.
type Router struct{}
