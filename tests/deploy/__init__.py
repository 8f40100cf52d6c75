"""What is deployed: the image, the chart, the alerts and the dashboard."""
