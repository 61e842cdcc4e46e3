// Package trace stands in for the exporter to Google Cloud Trace, which minikube uses when it is told to.
package trace

import (
	"context"
	"errors"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
)

// Option is an option that nobody reads.
type Option func()

// Exporter is never handed out.
type Exporter struct{}

// WithProjectID is the one option that minikube passes.
func WithProjectID(string) Option { return func() {} }

// New refuses.
func New(...Option) (*Exporter, error) {
	return nil, errors.New("this build of minikube has no Google Cloud Trace exporter")
}

func (*Exporter) ExportSpans(context.Context, []sdktrace.ReadOnlySpan) error { return nil }
func (*Exporter) Shutdown(context.Context) error                             { return nil }
