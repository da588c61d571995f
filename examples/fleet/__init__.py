"""A fleet to copy from: a web process, several workers, PostgreSQL for the orders, and Redis.

    make example-fleet      starts everything with a sandbox, and signs a few orders

| File | What it shows |
|---|---|
| `web.py` | creates orders and their signing jobs, and redirects customers to the service |
| `worker.py` | takes status changes from the queue, and stores the signed documents |
| `orders.py`, `schema.sql` | the orders in PostgreSQL, and the transactions that lose nothing and store nothing twice |
| `start.py` | starts everything on one machine, for a look |
| `compose.yaml`, `kubernetes.yaml` | sketches of a deployment; they were not run |

An order ends in one final state, wherever a process is interrupted:

| Interrupted | What happens |
|---|---|
| before or during `create`, or before its response was stored | The order stays OUTCOME_UNKNOWN. If the job exists, its next status change has the order's reference and settles the order. A job that nobody can sign expires after 30 days, which is a status change too. If an order is still OUTCOME_UNKNOWN a few days later, no job exists, and a person closes it. |
| before the transaction of a status change | Nothing was stored. The service redelivers the change when its lease ends. |
| between the transaction and `confirm` | The service redelivers the change. Its key is stored already, so it is only confirmed. |
| again and again, by an error or the end of the process | After 300 deliveries, about two days, the change is stored in `dead_letter` for a person, and confirmed. |
| while two workers have the same change, because its lease ended | The second transaction finds the key of the first, and stores nothing. |

A committed transaction must survive: use synchronous replication if PostgreSQL can fail over to a replica.
"""
