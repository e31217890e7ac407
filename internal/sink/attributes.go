package sink

import (
	"strconv"

	"github.com/gofrs/uuid/v5"
	common "go.opentelemetry.io/proto/otlp/common/v1"

	"github.com/sofatutor/caddy-llm-proxy/internal/event"
)

// attributes are a span's. What is empty or unknown is left out.
type attributes []*common.KeyValue

func text(key, value string) *common.KeyValue {
	return &common.KeyValue{Key: valid(key), Value: &common.AnyValue{Value: &common.AnyValue_StringValue{StringValue: valid(value)}}}
}

func (a *attributes) text(key, value string) {
	if value != "" {
		*a = append(*a, text(key, value))
	}
}

func (a *attributes) id(key string, id uuid.UUID) {
	if !id.IsNil() {
		a.text(key, id.String())
	}
}

func (a *attributes) count(key string, c event.Count) {
	if c.Known {
		*a = append(*a, &common.KeyValue{Key: key, Value: &common.AnyValue{Value: &common.AnyValue_IntValue{IntValue: c.N}}})
	}
}

func (a *attributes) number(key string, value float64) {
	*a = append(*a, &common.KeyValue{Key: key, Value: &common.AnyValue{Value: &common.AnyValue_DoubleValue{DoubleValue: value}}})
}

func (a *attributes) flag(key string, value bool) {
	*a = append(*a, &common.KeyValue{Key: key, Value: &common.AnyValue{Value: &common.AnyValue_BoolValue{BoolValue: value}}})
}

func itoa(n int64) string { return strconv.FormatInt(n, 10) }
