package usage

// Finish is why an answer ended.
type Finish uint8

// The reasons, over all dialects.
const (
	FinishNone      Finish = iota // it has not, or nobody said
	FinishStop                    // the model was done, or met a stop sequence
	FinishLength                  // a limit of tokens
	FinishToolCalls               // the model wants a tool's result
	FinishFiltered                // refused or blocked as unsafe
	FinishError                   // it failed
	FinishCancelled               // somebody cancelled it
	FinishOther                   // a reason that is none of these
)

var finishNames = [...]string{"", "stop", "length", "tool_calls", "content_filter", "error", "cancelled", "other"}

// String is the reason as OpenAI's chat completions name it, where they do.
func (f Finish) String() string {
	if int(f) < len(finishNames) {
		return finishNames[f]
	}
	return "other"
}

// finishOf reads finish_reason, stop_reason, finishReason and a response's status
// with the reason why it is incomplete.
func finishOf(reason []byte) Finish {
	switch string(reason) {
	case "", "in_progress", "queued", "FINISH_REASON_UNSPECIFIED":
		return FinishNone
	case "stop", "eos", "end_turn", "stop_sequence", "STOP", "completed":
		return FinishStop
	case "length", "max_tokens", "model_length", "model_context_window_exceeded", "MAX_TOKENS", "incomplete", "max_output_tokens":
		return FinishLength
	case "tool_calls", "function_call", "tool_use":
		return FinishToolCalls
	case "content_filter", "refusal", "SAFETY", "RECITATION", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII",
		"IMAGE_SAFETY", "IMAGE_PROHIBITED_CONTENT", "IMAGE_RECITATION":
		return FinishFiltered
	case "error", "failed", "MALFORMED_FUNCTION_CALL", "UNEXPECTED_TOOL_CALL", "TOO_MANY_TOOL_CALLS":
		return FinishError
	case "cancelled", "turn_detected", "client_cancelled":
		return FinishCancelled
	}
	return FinishOther
}
