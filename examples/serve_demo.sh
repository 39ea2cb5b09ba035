# Three lines to try while `make serve-demo` runs.
curl -s http://127.0.0.1:8000/v1/tasks/reviews/predict -H 'content-type: application/json' -d '{"input": "The hinge broke in a week and nobody answers."}'
curl -s http://127.0.0.1:8000/v1/tasks/support/predict -H 'content-type: application/json' -d '{"inputs": ["Where is my parcel?", "I cannot log in any more."]}'
curl -s http://127.0.0.1:8000/v1/chat/completions -H 'content-type: application/json' -d '{"model": "reviews", "messages": [{"role": "user", "content": "Best film I have seen this year."}]}'
