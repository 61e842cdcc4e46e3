// Package option stands in for Google's client options, as far as minikube names them.
package option

// ClientOption is an option that nobody reads.
type ClientOption interface{}

// WithoutAuthentication is the one that minikube passes.
func WithoutAuthentication() ClientOption { return nil }
