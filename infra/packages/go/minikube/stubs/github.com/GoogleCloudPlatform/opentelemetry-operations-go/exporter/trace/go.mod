module github.com/GoogleCloudPlatform/opentelemetry-operations-go/exporter/trace

go 1.25.0

require go.opentelemetry.io/otel/sdk v1.40.0
