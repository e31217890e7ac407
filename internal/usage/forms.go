package usage

// form is how answers of a kind are to be read.
type form struct {
	body    *node // of an answer that is one document
	event   *node // of each event of a stream
	dialect dialect
}

// dialect is how a provider's numbers relate to each other.
type dialect uint8

const (
	openAI dialect = iota // the input includes what is cached, the output what is thought
	openAIImages
	openAISpeech
	geminiChat // OpenAI's, but the output leaves out what is thought
	anthropic  // the input leaves out what is cached or written to the cache
	gemini     // the input includes what is cached, the output leaves out what is thought
)

// forms are the kinds' forms. Where body and event are one tree, no member of
// one can be mistaken for one of the other.
var forms = [kinds]form{
	KindChat:        {chatDocument(), chatDocument(), openAI},
	KindGeminiChat:  {chatDocument(), chatDocument(), geminiChat},
	KindResponses:   {responsesDocument(), responsesDocument(), openAI},
	KindImages:      {imagesBody(), imagesEvent(), openAIImages},
	KindTranscripts: {transcriptBody(), transcriptEvent(), openAI},
	KindSpeech:      {nil, speechEvent(), openAISpeech},
	KindRealtime:    {realtimeEvent(), nil, openAI},
	KindOCR:         {ocrBody(), nil, openAI},
	KindMessages:    {messagesDocument(), messagesDocument(), anthropic},
	KindGenerate:    {generateDocument().orArray(), generateDocument(), gemini},
}

func root(kids ...*node) *node { return object("", kids...).as(roleDocument) }

// usageObject is OpenAI's usage. Its details are spelled in three ways.
func usageObject(in, out, inDetails, outDetails string) *node {
	return object("usage",
		number(in, fInput), number(out, fOutput), number("total_tokens", fTotal),
		object(inDetails,
			number("cached_tokens", fCached), number("cache_write_tokens", fCacheWrite),
			number("audio_tokens", fAudioIn), number("image_tokens", fImageIn),
			object("cached_tokens_details", number("audio_tokens", fCachedAudio), number("image_tokens", fCachedImage)),
		),
		object(outDetails,
			number("reasoning_tokens", fReasoning), number("audio_tokens", fAudioOut), number("image_tokens", fImageOut),
		),
		number("prompt_cache_hit_tokens", fCacheHit), // DeepSeek
		number("seconds", fMillis).as(roleMillis),
		object("server_tool_use", number("web_search_requests", fWebSearches)),
	).as(roleUsage)
}

func chatUsage() *node {
	return usageObject("prompt_tokens", "completion_tokens", "prompt_tokens_details", "completion_tokens_details")
}

func tokensUsage() *node {
	return usageObject("input_tokens", "output_tokens", "input_tokens_details", "output_tokens_details")
}

// audioUsage differs from tokensUsage by an s.
func audioUsage() *node {
	return usageObject("input_tokens", "output_tokens", "input_token_details", "output_token_details")
}

func errorObject() *node {
	return object("error", value("type", roleErrorType), value("code", roleErrorCode), value("status", roleErrorCode)).as(roleError)
}

func chatDocument() *node {
	toolCalls := array("tool_calls", object("", object("function", value("arguments", roleContent))))
	said := func(name string) *node {
		return object(name,
			array("content", object("", value("text", roleContent))).as(roleContent),
			value("reasoning_content", roleContent), value("reasoning", roleContent), value("refusal", roleContent),
			toolCalls, object("function_call", value("arguments", roleContent)),
			object("audio", value("data", roleBlob), value("transcript", roleContent)),
		)
	}
	return root(
		value("id", roleID), value("model", roleModel), value("service_tier", roleTier),
		array("choices", object("", said("delta"), said("message"), value("text", roleContent), value("finish_reason", roleFinish))),
		chatUsage(),
		object("x_groq", chatUsage().echo().as(roleNone), value("error", roleError)),
		errorObject(),
		// Mistral's conversations.
		value("type", roleEvent), value("content", roleContent), value("conversation_id", roleID),
	)
}

func responsesDocument() *node {
	response := func(name string, output *node) *node {
		return object(name,
			value("id", roleID), value("model", roleModel), value("service_tier", roleTier), value("status", roleFinish),
			object("incomplete_details", value("reason", roleFinish)),
			array("output", output), tokensUsage(), errorObject(),
		)
	}
	searches := func() *node { return number("type", fSearchCalls).as(roleItemType) }
	text := object("", value("text", roleContent), value("refusal", roleContent))
	doc := response("", object("", searches(), array("content", text), array("summary", text), value("arguments", roleContent), value("input", roleContent)))
	doc.kids = append(doc.kids,
		response("response", object("", searches())).aside(), // its text has come before
		value("type", roleEvent), value("delta", roleContent), value("partial_image_b64", roleBlob), value("code", roleTopCode),
	)
	return doc.as(roleDocument).settle()
}

func imagesBody() *node {
	return root(
		array("data", (&node{field: fImages, role: roleItem, kids: []*node{value("b64_json", roleBlob), value("url", roleBlob)}}).settle()),
		tokensUsage(), errorObject(),
	)
}

func imagesEvent() *node {
	return root(value("type", roleEvent), value("b64_json", roleBlob), tokensUsage(), errorObject())
}

func transcriptBody() *node {
	return root(value("text", roleContent), number("duration", fDuration).as(roleMillis), audioUsage(), errorObject())
}

func transcriptEvent() *node {
	return root(value("type", roleEvent), value("delta", roleContent), audioUsage(), errorObject())
}

func speechEvent() *node {
	return root(value("type", roleEvent), value("audio", roleBlob), tokensUsage(), errorObject())
}

func realtimeEvent() *node {
	return root(
		value("type", roleEvent),
		object("response",
			value("id", roleID), value("model", roleModel), value("status", roleFinish),
			object("status_details", value("reason", roleFinish), errorObject()), audioUsage(),
		).aside(),
		audioUsage(), // of an input's transcription
	)
}

func ocrBody() *node {
	return root(value("model", roleModel), object("usage_info", number("pages_processed", fPages)).as(roleUsage), errorObject())
}

func messagesDocument() *node {
	usage := func() *node {
		return object("usage",
			number("input_tokens", fInput), number("output_tokens", fOutput),
			number("cache_read_input_tokens", fCached), number("cache_creation_input_tokens", fCacheWrite),
			object("cache_creation", number("ephemeral_5m_input_tokens", fWrite5m), number("ephemeral_1h_input_tokens", fWrite1h)),
			object("output_tokens_details", number("thinking_tokens", fReasoning)),
			object("server_tool_use", number("web_search_requests", fWebSearches)),
			value("service_tier", roleTier),
		).as(roleUsage)
	}
	block := func(name string) *node {
		return object(name, value("text", roleContent), value("thinking", roleContent), value("partial_json", roleContent), value("stop_reason", roleFinish))
	}
	return root(
		value("type", roleEvent), value("id", roleID), value("model", roleModel), value("stop_reason", roleFinish),
		array("content", block("")), block("delta"), block("content_block"),
		object("message", value("id", roleID), value("model", roleModel), usage()).aside(),
		usage(), errorObject(),
	)
}

func generateDocument() *node {
	details := func(name string, audio, image field) *node {
		detail := object("", value("modality", roleModality), value("tokenCount", roleDetailCount)).as(roleDetail)
		detail.field, detail.image = audio, image
		return array(name, detail.settle())
	}
	return root(
		value("responseId", roleID), value("modelVersion", roleModel),
		array("candidates", object("",
			object("content", array("parts", object("",
				value("text", roleContent), object("inlineData", value("data", roleBlob)), object("functionCall", value("name", roleBlob)),
			))),
			value("finishReason", roleFinish),
		)),
		object("promptFeedback", value("blockReason", roleBlock)),
		object("usageMetadata",
			number("promptTokenCount", fInput), number("candidatesTokenCount", fOutput), number("totalTokenCount", fTotal),
			number("cachedContentTokenCount", fCached), number("thoughtsTokenCount", fReasoning), number("toolUsePromptTokenCount", fToolPrompt),
			details("promptTokensDetails", fAudioIn, fImageIn), details("candidatesTokensDetails", fAudioOut, fImageOut),
			details("cacheTokensDetails", fCachedAudio, fCachedImage), value("serviceTier", roleTier),
		).as(roleUsage),
		array("predictions", object("", number("bytesBase64Encoded", fImages).as(roleImage))),
		errorObject(),
	)
}
