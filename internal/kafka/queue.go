package kafka

// fifo is a queue in a ring that grows by doubling. The zero value is empty.
type fifo[T any] struct {
	items []T
	head  int
	size  int
}

func (q *fifo[T]) len() int { return q.size }

// at returns the i-th item from the front.
func (q *fifo[T]) at(i int) *T {
	return &q.items[(q.head+i)&(len(q.items)-1)]
}

func (q *fifo[T]) push(item T) {
	q.grow()
	q.size++
	*q.at(q.size - 1) = item
}

func (q *fifo[T]) pushFront(item T) {
	q.grow()
	q.head = (q.head - 1) & (len(q.items) - 1)
	q.size++
	*q.at(0) = item
}

func (q *fifo[T]) pop() T {
	first := q.at(0)
	item := *first
	var zero T
	*first = zero // what was popped is not kept alive
	q.head = (q.head + 1) & (len(q.items) - 1)
	q.size--
	if q.size == 0 && len(q.items) > 1024 {
		*q = fifo[T]{} // a burst's memory is given back
	}
	return item
}

// grow makes room for one more item. The length is a power of two, so that the
// ring wraps with a mask.
func (q *fifo[T]) grow() {
	if q.size < len(q.items) {
		return
	}
	items := make([]T, max(8, 2*len(q.items)))
	for i := range q.size {
		items[i] = *q.at(i)
	}
	q.items, q.head = items, 0
}
