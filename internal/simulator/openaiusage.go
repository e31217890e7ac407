package simulator

// chatUsage is the usage object of chat and completions.
func (u usage) chatUsage() object {
	return object{
		"prompt_tokens", u.prompt,
		"completion_tokens", u.completion,
		"total_tokens", u.total(),
		"prompt_tokens_details", object{"cached_tokens", u.cached, "audio_tokens", 0},
		"completion_tokens_details", object{
			"reasoning_tokens", u.reasoning,
			"audio_tokens", 0,
			"accepted_prediction_tokens", 0,
			"rejected_prediction_tokens", 0,
		},
	}
}

// responsesUsage is the usage object of the Responses API.
func (u usage) responsesUsage() object {
	return object{
		"input_tokens", u.prompt,
		"input_tokens_details", object{"cached_tokens", u.cached, "cache_write_tokens", 0},
		"output_tokens", u.completion,
		"output_tokens_details", object{"reasoning_tokens", u.reasoning},
		"total_tokens", u.total(),
	}
}

// realtimeUsage is the usage object of response.done.
func (u usage) realtimeUsage() object {
	return object{
		"total_tokens", u.total(),
		"input_tokens", u.prompt,
		"output_tokens", u.completion,
		"input_token_details", object{
			"text_tokens", u.prompt, "audio_tokens", 0, "image_tokens", 0, "cached_tokens", u.cached,
			"cached_tokens_details", object{"text_tokens", u.cached, "audio_tokens", 0, "image_tokens", 0},
		},
		"output_token_details", object{"text_tokens", u.completion, "audio_tokens", 0},
	}
}
