package limit

import (
	"slices"
	"sync"
	"sync/atomic"
)

const (
	bytesPerToken = 4
	// defaultOutput is expected of a model that nobody has heard from.
	defaultOutput = 1024

	maxModels    = 1024 // of which outputs are remembered; their names come from clients
	maxModelName = 256
	recent       = 128 // outputs remembered of each
	renewEvery   = 8   // outputs between two looks at them
)

// Estimator guesses what a request will use, from what answers have used. The zero
// value is ready. It is safe for concurrent use.
type Estimator struct {
	mu     sync.RWMutex
	models map[string]*outputs
}

// outputs are the sizes of a model's last answers.
type outputs struct {
	p95 atomic.Int64

	mu    sync.Mutex
	ring  [recent]int64
	count int
}

// Estimate is the weight of a request: a token for each four bytes of its body, and
// the output that it asks for, or what 95 of 100 of the model's recent answers
// stay within, or 1,024. maxTokens below zero means that the request does not say.
func (e *Estimator) Estimate(bodyBytes int64, model string, maxTokens int64) int64 {
	output := maxTokens
	if output < 0 {
		output = e.expect(model)
	}
	input := max(bodyBytes, 0) / bytesPerToken
	return min(input, MaxAmount/2) + min(output, MaxAmount/2)
}

func (e *Estimator) expect(model string) int64 {
	e.mu.RLock()
	o := e.models[model]
	e.mu.RUnlock()
	if o == nil {
		return defaultOutput
	}
	return o.p95.Load()
}

// Observe takes note of the output tokens of a model's complete answer. Beyond 1,024
// models another one is forgotten.
func (e *Estimator) Observe(model string, outputTokens int64) {
	if len(model) > maxModelName || outputTokens < 0 {
		return
	}
	e.mu.RLock()
	o := e.models[model]
	e.mu.RUnlock()
	if o == nil {
		o = e.learn(model)
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.ring[o.count%recent] = min(outputTokens, MaxAmount/2)
	o.count++
	if o.count > recent && o.count%renewEvery != 0 {
		return
	}
	sorted := o.ring
	known := sorted[:min(o.count, recent)]
	slices.Sort(known)
	o.p95.Store(known[(len(known)*95+99)/100-1])
}

func (e *Estimator) learn(model string) *outputs {
	e.mu.Lock()
	defer e.mu.Unlock()
	if o := e.models[model]; o != nil {
		return o
	}
	if e.models == nil {
		e.models = make(map[string]*outputs)
	}
	if len(e.models) >= maxModels {
		for other := range e.models { // any: the order is random
			delete(e.models, other)
			break
		}
	}
	o := new(outputs)
	o.p95.Store(defaultOutput)
	e.models[model] = o
	return o
}
