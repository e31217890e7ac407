package adminapi

import (
	_ "embed"

	"github.com/go-json-experiment/json/jsontext"
)

// description is the OpenAPI 3.1 document of the API. It is written by hand and
// held against routes, codes and real answers by tests.
//
//go:embed openapi.json
var description []byte

func serveDescription(*call) (answer, error) { return ok(jsontext.Value(description)) }
