package usage

// node is a place in a JSON document that somebody wants to know about. The
// nodes of a form are a tree that is made once; what is not in it is skipped.
type node struct {
	name string
	kids []*node
	elem *node // what an array holds
	role role
	// field takes a number, the number of elements, or, of a roleDetail, what is of
	// audio; image what is of images.
	field, image field
	// clears are the fields below this node: as it begins, they are forgotten, so
	// that of a member that comes twice the later wins, as a whole.
	clears fields
}

// role is what is done with a value besides putting its number into a field.
type role uint8

const (
	roleNone     role = iota
	roleDocument      // an object that is a document: a frame's, an answer, an element of Gemini's array
	roleUsage         // the usage object
	roleMillis        // a number of seconds, for a field of milliseconds
	roleItem          // an element that counts one
	roleItemType      // counts one if it says web_search_call
	roleImage         // a string that is one image
	roleContent       // text that the model has written
	roleBlob          // content that is not text
	roleModel
	roleTier
	roleID
	roleEvent     // the type of an event
	roleFinish    // why the answer ended
	roleBlock     // why the prompt was blocked
	roleError     // an error, unless null
	roleErrorType // its type
	roleErrorCode // its code or status
	roleTopCode   // the code of an event whose type says error
	roleDetail    // an object with a modality and a tokenCount
	roleModality
	roleDetailCount

	// Of the filter.
	roleChoices
	roleChoice
)

// child finds the member of an object.
func (n *node) child(name []byte) *node {
	for _, k := range n.kids {
		if k.name == string(name) {
			return k
		}
	}
	return nil
}

// The makers of trees read like the documents.

func object(name string, kids ...*node) *node { return (&node{name: name, kids: kids}).settle() }

// array forgets as it begins, and then counts up over its elements.
func array(name string, elem *node) *node {
	n := (&node{name: name, elem: elem}).settle()
	elem.echo()
	return n
}

func number(name string, f field) *node { return (&node{name: name, field: f}).settle() }

func value(name string, r role) *node { return &node{name: name, role: r} }

func (n *node) as(r role) *node {
	n.role = r
	return n
}

// orArray makes an object that may come as an array of such.
func (n *node) orArray() *node {
	elem := *n
	n.elem = &elem
	return n
}

// aside makes a member that must not make another be forgotten by being there.
func (n *node) aside() *node {
	n.clears = 0
	return n
}

// echo makes a tree that repeats what another place of the document tells: it
// forgets nothing.
func (n *node) echo() *node {
	n.clears = 0
	for _, k := range n.kids {
		k.echo()
	}
	if n.elem != nil {
		n.elem.echo()
	}
	return n
}

func (n *node) settle() *node {
	n.clears |= n.field.bit() | n.image.bit()
	for _, k := range n.kids {
		n.clears |= k.clears
	}
	if n.elem != nil {
		n.clears |= n.elem.clears
	}
	return n
}
