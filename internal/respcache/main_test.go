package respcache_test

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/sofatutor/caddy-llm-proxy/internal/testdb"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(testdb.Main(m)) }
